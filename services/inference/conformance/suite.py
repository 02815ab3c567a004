"""The suite: every case, and how an engine is put through it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from services.inference.conformance import (
    cancelling,
    continuing,
    counting,
    embedding,
    limits,
    probabilities,
    sampling,
    stopping,
    streaming,
    structure,
    tools,
)
from services.inference.conformance.case import Case
from services.inference.conformance.expectation import ConformanceError
from services.inference.conformance.subject import Subject

CASES: Sequence[Case] = (
    *streaming.CASES,
    *stopping.CASES,
    *limits.CASES,
    *cancelling.CASES,
    *sampling.CASES,
    *continuing.CASES,
    *counting.CASES,
    *structure.CASES,
    *tools.CASES,
    *probabilities.CASES,
    *embedding.CASES,
)


class Outcome(Enum):
    """How a case went; the values are what reports call it."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class CaseResult:
    """How one case went. `reason` says what was wrong, or why it was skipped."""

    case: Case
    outcome: Outcome
    reason: str = ""
    took_s: float = 0.0


def reason_to_skip(case: Case, subject: Subject) -> str:
    """What a case needs and the engine is declared to lack; empty when it is to be run."""
    lacking = sorted(capability.value for capability in case.requires - subject.capabilities)
    return f"the engine has no {', '.join(lacking)}" if lacking else case.unless(subject)


async def run_case(case: Case, subject: Subject) -> CaseResult:
    """Run one case. An error that is no ConformanceError is the engine's, and fails the case, too."""
    if reason := reason_to_skip(case, subject):
        return CaseResult(case, Outcome.SKIPPED, reason)
    began = time.monotonic()
    try:
        await case.run(subject)
    except ConformanceError as error:
        return CaseResult(case, Outcome.FAILED, str(error), time.monotonic() - began)
    except Exception as error:  # noqa: BLE001 - the other cases tell what else the engine cannot do
        reason = f"{type(error).__name__}: {error}"
        return CaseResult(case, Outcome.FAILED, reason, time.monotonic() - began)
    return CaseResult(case, Outcome.PASSED, "", time.monotonic() - began)


async def run_suite(
    subject: Subject, *, cases: Sequence[Case] = CASES, on_result: Callable[[CaseResult], None] | None = None
) -> list[CaseResult]:
    """Run cases one after the other, on one started engine. `on_result` hears of each as it ends."""
    results: list[CaseResult] = []
    for case in cases:
        result = await run_case(case, subject)
        results.append(result)
        if on_result is not None:
            on_result(result)
    return results
