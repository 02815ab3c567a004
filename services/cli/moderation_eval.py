"""`chatmesh moderation eval`: how well Moderation judges labelled texts, without a mesh.

Services import each other nowhere, and the command is no exception: the evaluation runs as a process of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping

_EVALUATION = "services.moderation.evaluation"

_OPTIONS = (
    ("--output", "FILE", "write a line for each text, without the text"),
    ("--kind", "KIND", "only texts of one direction: input or output"),
    ("--part", "PART", "only texts of one part, such as val"),
    ("--limit", "N", "only N of them, drawn with the seed"),
    ("--policy", "FILE", "policy, in place of CHATMESH_POLICY_FILE"),
    ("--layers", "A,B", "of rules,attacks,classifier (default: all)"),
    ("--bootstrap", "N", "resamples for the intervals (default 1000)"),
    ("--seed", "N", "of the sample and the resamples (default 0)"),
    ("--floor", "FILE", "figures that must be reached, YAML; exits 1 when one is not"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be asked for. The values are checked by the evaluation."""
    parser.add_argument("folder", metavar="DIR", help="folder of *.jsonl, or one file")
    parser.add_argument("--json", action="store_true", help="for programs")
    for flag, metavar, text in _OPTIONS:
        parser.add_argument(flag, metavar=metavar, help=text)


def evaluate_moderation(arguments: argparse.Namespace, *, environment: Mapping[str, str]) -> int:
    """Evaluate in the foreground. Returns the exit code."""
    command = [sys.executable, "-m", _EVALUATION]
    command += ["--json"] if arguments.json else []
    for flag, _, _ in _OPTIONS:
        value = getattr(arguments, flag.removeprefix("--"))
        if value is not None:
            command.append(f"{flag}={value}")
    command += ["--", arguments.folder]
    try:
        return subprocess.run(command, env=dict(environment), check=False).returncode  # noqa: S603
    except KeyboardInterrupt:
        # It has heard of it, too, and has ended by the time that `run` returns.
        return 130
