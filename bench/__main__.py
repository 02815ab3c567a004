"""`python -m bench tokens|engine|start|continuation|survival|history|priority|routing|moderation`.

All of them when none is named.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable

from bench import continuation, engine, history, moderation, priority, routing, start, survival, tokens

_PARTS: dict[str, tuple[Callable[[ArgumentParser], None], Callable[[Namespace], int], str | None]] = {
    part.__name__.rpartition(".")[2]: (part.add_arguments, part.run, part.__doc__)
    for part in (tokens, engine, start, continuation, survival, history, priority, routing, moderation)
}


def main() -> int:
    """Measure what is asked for."""
    parser = ArgumentParser(prog="python -m bench", description="Measure the mesh; see docs/performance.md.")
    commands = parser.add_subparsers(dest="part")
    for name, (add_arguments, _, purpose) in _PARTS.items():
        add_arguments(commands.add_parser(name, help=purpose))
    arguments = parser.parse_args()
    if arguments.part:
        _, run, _ = _PARTS[arguments.part]
        return run(arguments)
    codes = []
    for name, (_, run, _) in _PARTS.items():
        print(f"\n## {name}\n", flush=True)
        codes.append(run(parser.parse_args([name])))
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
