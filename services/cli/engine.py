"""`chatmesh engine`: what concerns the engines of this machine, without a mesh.

Services import each other nowhere, and the command is no exception: the check runs as a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

_CHECK = "services.inference.engine_check"


def check_engines(*, model: str, cases: list[str], environment: Mapping[str, str]) -> int:
    """Check engines in the foreground. The models file is that of the environment. Returns the exit code."""
    arguments = [argument for case in cases for argument in ("--case", case)]
    if model:
        arguments += ["--model", model]
    command = [sys.executable, "-m", _CHECK, *arguments]
    try:
        return subprocess.run(command, env=dict(environment), check=False).returncode  # noqa: S603
    except KeyboardInterrupt:
        # It has heard of it, too, and has ended by the time that `run` returns.
        return 130
