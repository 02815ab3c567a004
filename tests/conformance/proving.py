"""Cases of the conformance suite as tests."""

from __future__ import annotations

import pytest

from services.inference.conformance.case import Case
from services.inference.conformance.subject import Subject
from services.inference.conformance.suite import reason_to_skip


async def prove(case: Case, subject: Subject) -> None:
    """Run a case; it is skipped only for what the subject is declared to lack."""
    if reason := reason_to_skip(case, subject):
        pytest.skip(reason)
    await case.run(subject)
