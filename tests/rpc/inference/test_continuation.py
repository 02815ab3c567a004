"""Continuing an answer, and holding it to a form, through the service with the synthetic engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from chatmesh.type.v1 import chat_pb2
from services.runtime.errors import Reason, from_status
from tests.rpc.inference.peer import Answer, TestPeer
from tests.rpc.inference.process import InferenceProcess, synthetic

Connect = Callable[[InferenceProcess], TestPeer]

JSON = '{"name": "Ada", "age": 36}'
OBJECT = chat_pb2.ResponseFormat(json_object=True)

MODELS = [
    synthetic("whole", tokens_per_second=0, answer_tokens=200),
    synthetic("formless", tokens_per_second=0, lacks=["json"]),
    # The same answer at a pace, so that steps are missed and made up for.
    synthetic("paced", tokens_per_second=2_000, answer_tokens=200),
    synthetic("failing", tokens_per_second=0, answer_tokens=200, fail_after_tokens=33),
    synthetic("recovers", tokens_per_second=0, answer_tokens=200, fail_after_tokens=33, fail_times=1),
    synthetic("stalling", tokens_per_second=0, answer_tokens=200, stall_after_tokens=41),
    synthetic("json", tokens_per_second=0, answer=JSON),
]


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InferenceProcess]:
    started = InferenceProcess(tmp_path_factory.mktemp("inference"), MODELS)
    started.wait_until_serving()
    yield started
    started.stop()


@pytest.fixture
async def peer(process: InferenceProcess, connect: Connect) -> TestPeer:
    return connect(process)


def reason(answer: Answer) -> Reason:
    error = from_status(answer.end.error)
    assert error is not None
    return error.reason


@pytest.mark.parametrize("model", ["whole", "paced"])
@pytest.mark.parametrize("stop", [(), (" mesh", "copper lantern")])
async def test_it_goes_on_after_any_delta(peer: TestPeer, model: str, stop: tuple[str, ...]) -> None:
    whole = await peer.ask(model=model, seed=4, stop=stop, max_tokens=150)
    told = 0
    for place, delta in enumerate(whole.deltas[:-1], start=1):
        told += delta.token_count
        if model == "paced" and place % 5:
            continue
        rest = await peer.ask(model=model, seed=4, stop=stop, max_tokens=150 - told, continuation=whole.pieces[:place])
        assert "".join(text for text, _ in whole.pieces[:place]) + rest.text == whole.text
        assert told + rest.tokens == whole.tokens
        assert rest.end.finish_reason == whole.end.finish_reason
        assert rest.end.usage.prompt_tokens == whole.end.usage.prompt_tokens + told


async def test_an_engine_fails_one_stalls_and_a_third_ends_the_answer(peer: TestPeer) -> None:
    whole = await peer.ask(model="whole", seed=9)
    failed = await peer.ask(model="failing", seed=9)
    assert reason(failed) is Reason.ENGINE_FAILED
    pieces = failed.pieces
    generation_id, stalled = await peer.start(model="stalling", seed=9, continuation=pieces)
    await stalled.until(lambda answer: answer.tokens >= 40)
    await peer.send(cancels=[generation_id])
    pieces += (await stalled.finished()).pieces
    rest = await peer.ask(model="whole", seed=9, continuation=pieces)
    assert failed.text + stalled.text + rest.text == whole.text
    assert failed.tokens + stalled.tokens + rest.tokens == whole.tokens == 200


async def test_an_engine_that_failed_once_works_again(peer: TestPeer) -> None:
    whole = await peer.ask(model="whole", seed=9)
    failed = await peer.ask(model="recovers", seed=9)
    assert reason(failed) is Reason.ENGINE_FAILED
    rest = await peer.ask(model="recovers", seed=9, continuation=failed.pieces)
    assert failed.text + rest.text == whole.text


async def test_too_much_of_a_continuation_is_refused(peer: TestPeer) -> None:
    answer = await peer.ask(model="whole", continuation=[("x", [])] * 10_001)
    assert reason(answer) is Reason.INVALID_FIELD


async def test_a_form_is_refused_or_held(peer: TestPeer) -> None:
    refused = await peer.ask(model="formless", response_format=OBJECT)
    assert reason(refused) is Reason.UNSUPPORTED_RESPONSE_FORMAT
    error = from_status(refused.end.error)
    assert error is not None
    assert error.metadata["model"] == "formless"
    # Asking for no JSON object is asking for nothing.
    assert (await peer.ask(model="whole", response_format=chat_pb2.ResponseFormat(json_object=False))).tokens == 200
    assert (await peer.ask(model="json", response_format=OBJECT)).text == JSON


async def test_an_answer_that_must_have_a_form_is_not_continued(peer: TestPeer) -> None:
    answer = await peer.ask(model="json", response_format=OBJECT, continuation=[(JSON[:5], [])])
    assert reason(answer) is Reason.UNSUPPORTED_RESPONSE_FORMAT
    # Nothing was written yet: there is nothing to continue.
    assert (await peer.ask(model="json", response_format=OBJECT, continuation=[("", [])])).text == JSON
