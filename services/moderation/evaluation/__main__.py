"""Judges labelled texts and says how well: `python -m services.moderation.evaluation DIR`.

Exit codes: 0 all is well, 1 a floor is broken, 2 there is nothing to judge with: the texts, the policy or the floors
are missing or wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from services.moderation.evaluation.floors import broken_floors, load_floors
from services.moderation.evaluation.judging import LAYERS
from services.moderation.evaluation.layered import LayeredJudge
from services.moderation.evaluation.outcomes import judge_rows, write_outcomes
from services.moderation.evaluation.report import evaluate
from services.moderation.evaluation.rows import load_rows
from services.moderation.evaluation.table import render
from services.moderation.model import Layer
from services.runtime.settings import SettingsError

OK, BROKEN, IMPOSSIBLE = 0, 1, 2

_EVERY = 50


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    parsed = _parser().parse_args(arguments)
    try:
        return _evaluate(parsed)
    except SettingsError as error:
        sys.stderr.write(f"moderation eval: {error}\n")
        return IMPOSSIBLE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="chatmesh moderation eval", description="Judge labelled texts with Moderation's layers and say how well."
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder of *.jsonl, or one file")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--output", metavar="FILE", type=Path, help="write a line for each text, without the text")
    parser.add_argument("--kind", choices=("input", "output"), default="", help="only texts of this direction")
    parser.add_argument("--part", default="", help="only texts of this part, such as val")
    parser.add_argument("--limit", type=_count, default=0, metavar="N", help="only N of them, drawn with the seed")
    parser.add_argument("--policy", metavar="FILE", type=Path, help="policy, in place of CHATMESH_POLICY_FILE")
    parser.add_argument(
        "--layers", type=_layers, default=frozenset(LAYERS), metavar="A,B", help=f"of {','.join(LAYERS)} (default: all)"
    )
    parser.add_argument("--bootstrap", type=_count, default=1000, metavar="N", help="resamples (default 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample and the resamples (default 0)")
    parser.add_argument("--floor", metavar="FILE", type=Path, help="figures that must be reached; exit 1 if not")
    return parser


def _evaluate(parsed: argparse.Namespace) -> int:
    # What is wrong with the floors is said before the texts are judged, not minutes later.
    floors = load_floors(parsed.floor) if parsed.floor else None
    rows = load_rows(parsed.folder, kind=parsed.kind, part=parsed.part, limit=parsed.limit, seed=parsed.seed)
    judge = LayeredJudge.load(policy_file=parsed.policy, layers=parsed.layers)
    outcomes = judge_rows(rows, judge, progress=_progress(len(rows)))
    if parsed.output:
        write_outcomes(parsed.output, outcomes)
    report = evaluate(
        outcomes, versions=judge.versions, looked_for=judge.entities, resamples=parsed.bootstrap, seed=parsed.seed
    )
    content = report.as_json()
    sys.stdout.write(f"{json.dumps(content, indent=2, ensure_ascii=False) if parsed.json else render(report)}\n")
    broken = broken_floors(content, floors) if floors else []
    for floor in broken:
        sys.stderr.write(f"below the floor: {floor}\n")
    return BROKEN if broken else OK


def _progress(total: int) -> Callable[[int], None]:
    if not sys.stderr.isatty():
        return lambda _: None

    def show(number: int) -> None:
        if number == total:
            sys.stderr.write("\r\x1b[K")
        elif number % _EVERY == 0:
            sys.stderr.write(f"\r{number} of {total}")
        sys.stderr.flush()

    return show


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def _layers(text: str) -> frozenset[Layer]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in LAYERS]:
        raise argparse.ArgumentTypeError(f"no layer {', '.join(unknown)}; there are {', '.join(LAYERS)}")
    if not names:
        raise argparse.ArgumentTypeError("name at least one layer")
    return frozenset(Layer(name) for name in names)


if __name__ == "__main__":
    sys.exit(main())
