"""Checks engines where they will run: `python -m services.inference.engine_check --models FILE [--model NAME]`.

For TensorRT-LLM it first compares the installed library with what the engine builds on. Then it starts each model's
engine and puts it through the conformance suite. Exit codes: 0 all is well, 1 something is not, 2 there is nothing to
check with: the models file, or what the engine needs, is missing.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import uvloop

from services.inference.conformance.case import Case
from services.inference.conformance.suite import CASES, CaseResult, Outcome, run_suite
from services.inference.engine_subject import entry_to_check, subject_of
from services.inference.engines.catalogue import ENGINES
from services.inference.engines.engine import Engine
from services.inference.engines.tensorrt_llm import contract
from services.inference.settings import InferenceSettings
from services.runtime.errors import DomainError
from services.runtime.model_registry import ModelEntry, ModelRegistry
from services.runtime.settings import SettingsError, load_settings

OK, FAILED, IMPOSSIBLE = 0, 1, 2

_MARKS = {Outcome.PASSED: "passed", Outcome.FAILED: "FAILED", Outcome.SKIPPED: "skipped"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="chatmesh engine check", description="Check the engines of a models file on this machine."
    )
    parser.add_argument("--models", metavar="FILE", type=Path, help="models file (default: CHATMESH_MODELS_FILE)")
    parser.add_argument("--model", metavar="NAME", default="", help="only this one (default: all)")
    parser.add_argument("--case", metavar="NAME", action="append", default=[], help="only this case; may be repeated")
    parsed = parser.parse_args(arguments)
    # Engines log what the cases provoke, such as refused prompts; what matters is in the report.
    logging.getLogger("services").addHandler(logging.NullHandler())
    try:
        settings = load_settings(InferenceSettings)
        registry = ModelRegistry.load(parsed.models or settings.models_file)
        entries = _entries(registry, parsed.model)
        cases = _chosen(parsed.case)
    except SettingsError as error:
        sys.stderr.write(f"engine check: {error}\n")
        return IMPOSSIBLE
    return uvloop.run(_check(entries, cases))


async def _check(entries: Sequence[ModelEntry], cases: Sequence[Case]) -> int:
    return max([await _check_model(entry, cases) for entry in entries])


async def _check_model(entry: ModelEntry, cases: Sequence[Case]) -> int:
    _say(f"{entry.name} ({entry.engine})")
    if entry.engine == contract.PACKAGE and (code := _compare_library()) != OK:
        return code
    engine: Engine | None = None
    try:
        changed = entry_to_check(entry)
        engine = ENGINES[entry.engine](changed)
        await engine.start()
        subject = await subject_of(engine, changed)
        results = await run_suite(subject, cases=cases, on_result=_report)
    except SettingsError as error:
        _say(f"  cannot start: {error}")
        return IMPOSSIBLE
    except DomainError as error:
        _say(f"  cannot start: {error.message}")
        return FAILED
    finally:
        if engine is not None:
            await engine.close()
    counts = Counter(result.outcome for result in results)
    _say("  " + ", ".join(f"{counts[outcome]} {outcome.value}" for outcome in Outcome))
    return FAILED if counts[Outcome.FAILED] else OK


def _compare_library() -> int:
    try:
        modules = contract.load_modules()
    except contract.NotInstalledError as error:
        _say(f"  TensorRT-LLM is not installed here: {error}")
        _say(f"  run this in an image made from {contract.IMAGE}, on a machine with a GPU")
        return IMPOSSIBLE
    version = contract.version_of(modules)
    _say(f"  TensorRT-LLM {version or 'of unknown version'}")
    if not contract.of_this_line(version):
        _say(f"  the engine was made for {contract.LINE}: what the library does may differ where its names do not")
    found = contract.differences(modules)
    for line in found:
        _say(f"  FAILED   contract              {line}")
    if found:
        return FAILED
    names = sum(max(1, len(part.names)) for part in contract.CONTRACT)
    _say(f"  passed   contract              the library has all of the {names} names that the engine builds on")
    return OK


def _report(result: CaseResult) -> None:
    mark = _MARKS[result.outcome]
    text = result.case.shows if result.outcome is Outcome.PASSED else result.reason
    took = f" ({result.took_s:.1f} s)" if result.took_s >= 1 else ""
    _say(f"  {mark:<8} {result.case.name:<21} {text}{took}")


def _entries(registry: ModelRegistry, name: str) -> Sequence[ModelEntry]:
    # Whatever pool they are for: it is the machine that is checked.
    if not name:
        return registry.models
    found = registry.find(name)
    if found is None:
        known = ", ".join(sorted(entry.name for entry in registry.models))
        raise SettingsError(f"--model names {name!r}, which the models file lacks; it has {known}")
    return [found]


def _chosen(names: Sequence[str]) -> Sequence[Case]:
    known = {case.name: case for case in CASES}
    if unknown := [name for name in names if name not in known]:
        raise SettingsError(f"--case: there is no case {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in names] or CASES


def _say(line: str) -> None:
    # At once: a suite on a large model takes minutes.
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
