"""The conformance suite on engine `tensorrt_llm`, with a double of the library: both samplers, all forms of calls."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from services.inference.conformance.case import Case
from services.inference.conformance.subject import Subject
from services.inference.conformance.suite import CASES
from services.inference.engines.tensorrt_llm.engine import TensorRtLlmEngine
from services.runtime.model_registry import ModelEntry
from tests.conformance.proving import prove
from tests.doubles.tensorrt_llm.installed import installed

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True)
class _Variant:
    family: str
    tool_parser: str
    sampler: str
    stream_interval: int


_VARIANTS = (
    # Without seeds that it heeds no answer is repeated, and none can be told in advance.
    _Variant("qwen", "hermes", "auto", 1),
    _Variant("llama", "llama3_json", "TRTLLMSampler", 1),
    _Variant("plain", "generic", "TRTLLMSampler", 3),
)


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=_VARIANTS, ids=lambda variant: variant.family)
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    variant: _Variant = request.param
    entry = ModelEntry(
        name=variant.family,
        engine="tensorrt_llm",
        path=f"double/{variant.family}",
        context_length=1024,
        max_output_tokens=200,
        slots=16,
        engine_options={
            "tool_parser": variant.tool_parser,
            "sampler": variant.sampler,
            "stream_interval": variant.stream_interval,
        },
    )
    heeds_seeds = variant.sampler == "TRTLLMSampler"
    with installed():
        engine = TensorRtLlmEngine(entry)
        await engine.start()
        yield Subject(engine=engine, entry=entry, repeats=heeds_seeds, deterministic=heeds_seeds)
        await engine.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_conformance(case: Case, subject: Subject) -> None:
    await prove(case, subject)
