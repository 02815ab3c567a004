"""The conformance suite through OpenAI's API, against llama.cpp's own HTTP server with SmolLM2-135M."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from services.inference.conformance.case import Case
from services.inference.conformance.subject import Subject
from services.inference.conformance.suite import CASES
from services.inference.engines.openai.engine import OpenAIEngine
from services.runtime.model_registry import ModelEntry
from tests.conformance.llama_http import KEY, NAME, LlamaHttp
from tests.conformance.proving import prove

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY_VARIABLE = "TEST_OPENAI_ENGINE_KEY"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def subject() -> AsyncIterator[Subject]:
    with LlamaHttp() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv(KEY_VARIABLE, KEY)
        entry = ModelEntry(
            name="smollm2-by-http",
            engine="openai",
            context_length=768,
            max_output_tokens=96,
            slots=4,
            # The model's template knows no tools, and llama.cpp's server then lets it talk instead of calling one.
            capabilities=["chat", "json", "logprobs", "logit_bias", "penalties"],
            engine_options={
                "base_url": server.base_url,
                "model": NAME,
                "api_key_env": KEY_VARIABLE,
                "continuation": "prefill",
                "chunk_counts": "llama_cpp",
                "tokenizer": "server",
                "send_stops": False,
            },
        )
        engine = OpenAIEngine(entry)
        await engine.start()
        yield Subject(engine=engine, entry=entry, gives_token_ids=False, known_token=(28120, "hello"))
        await engine.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_conformance(case: Case, subject: Subject) -> None:
    await prove(case, subject)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def embedder() -> AsyncIterator[Subject]:
    # The model's tokens, averaged: a poor embedding, but one that a real server computes. One slot: with several this
    # llama.cpp mixes up texts of different length.
    options: dict[str, Any] = {"slots": 1, "context_length": 256, "embedding": True, "pooling_type": 1}
    with LlamaHttp(**options) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv(KEY_VARIABLE, KEY)
        entry = ModelEntry(
            name="smollm2-embeds",
            engine="openai",
            context_length=256,
            max_output_tokens=1,
            slots=4,
            engine_options={
                "base_url": server.base_url,
                "model": NAME,
                "api_key_env": KEY_VARIABLE,
                "tokenizer": "server",
                "embeddings": True,
            },
        )
        engine = OpenAIEngine(entry)
        await engine.start()
        yield Subject(engine=engine, entry=entry)
        await engine.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_conformance_of_embeddings(case: Case, embedder: Subject) -> None:
    await prove(case, embedder)
