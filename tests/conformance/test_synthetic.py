"""The conformance suite on the synthetic engine, paced and unpaced."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from services.inference.conformance.case import Case
from services.inference.conformance.subject import Subject
from services.inference.conformance.suite import CASES
from services.inference.engines.synthetic import SyntheticEngine
from services.runtime.model_registry import ModelEntry
from tests.conformance.proving import prove

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=[0, 2_000], ids=["unpaced", "paced"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    entry = ModelEntry(
        name="synthetic",
        engine="synthetic",
        context_length=512,
        max_output_tokens=200,
        slots=16,
        engine_options={"tokens_per_second": request.param, "answer_tokens": 1_000},
    )
    engine = SyntheticEngine(entry)
    await engine.start()
    yield Subject(engine=engine, entry=entry, deterministic=True)
    await engine.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_conformance(case: Case, subject: Subject) -> None:
    await prove(case, subject)
