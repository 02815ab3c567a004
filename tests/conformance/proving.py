"""Cases of the conformance suite as tests."""

from __future__ import annotations

import pytest

from services.inference.conformance.case import Case
from services.inference.conformance.subject import Subject
from services.inference.conformance.suite import missing


async def prove(case: Case, subject: Subject) -> None:
    """Run a case; it is skipped only for want of a capability."""
    if lacking := missing(case, subject):
        pytest.skip(lacking)
    await case.run(subject)
