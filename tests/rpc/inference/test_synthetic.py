"""The service with the synthetic engine on a real port: streams, order, limits, faults."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from chatmesh.inference.v1 import inference_service_pb2
from chatmesh.type.v1 import chat_pb2
from services.runtime.errors import Reason, from_status
from tests.rpc.inference.peer import Answer, TestPeer, eventually
from tests.rpc.inference.process import InferenceProcess, synthetic

Connect = Callable[[InferenceProcess], TestPeer]

MODELS = [
    synthetic("synthetic", tokens_per_second=100),
    synthetic("fast", tokens_per_second=0, answer_tokens=300),
    synthetic("endless", tokens_per_second=100, answer_tokens=1_000_000),
    synthetic("one-slot", slots=1, tokens_per_second=100, answer_tokens=1_000_000),
    synthetic("failing", fail_after_tokens=5),
    synthetic("stalling", tokens_per_second=0, stall_after_tokens=5),
    synthetic("late", time_to_first_token_ms=300),
    synthetic("scripted", tokens_per_second=0, answer="Grüße aus 東京 👩🏽‍🚀. STOP here."),
]


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InferenceProcess]:
    started = InferenceProcess(tmp_path_factory.mktemp("inference"), MODELS, CHATMESH_INFERENCE_QUEUE_LIMIT="2")
    started.wait_until_serving()
    yield started
    started.stop()


@pytest.fixture
async def peer(process: InferenceProcess, connect: Connect) -> TestPeer:
    return connect(process)


def reason(answer: Answer) -> Reason:
    assert answer.end.finish_reason == chat_pb2.FINISH_REASON_ERROR
    error = from_status(answer.end.error)
    assert error is not None
    return error.reason


async def test_an_answer_says_what_it_is_and_ends_once(peer: TestPeer) -> None:
    answer = await peer.ask("Hello", seed=3)
    assert answer.text.startswith("This is the synthetic engine, not a model with seed 3. ")
    assert answer.end.finish_reason == chat_pb2.FINISH_REASON_STOP
    assert answer.tokens == len(answer.token_ids) == answer.end.usage.completion_tokens == 64
    counts = await peer.stub.CountTokens(inference_service_pb2.CountTokensRequest(model="synthetic", texts=["Hello"]))
    assert answer.end.usage.prompt_tokens == (counts.counts[0] + counts.tokens_per_message + counts.tokens_per_prompt)


async def test_the_same_seed_gives_the_same_answer_and_another_another(peer: TestPeer) -> None:
    same = await asyncio.gather(*(peer.ask("Hello", model="fast", seed=7) for _ in range(3)))
    other_seed = await peer.ask("Hello", model="fast", seed=8)
    other_prompt = await peer.ask("Good day", model="fast", seed=7)
    assert len({(answer.text, *answer.token_ids) for answer in same}) == 1
    assert len({same[0].text, other_seed.text, other_prompt.text}) == 3


async def test_an_answer_is_continued_where_it_was_cut(peer: TestPeer) -> None:
    whole = await peer.ask("Hello", model="fast", seed=1)
    cut = await peer.ask("Hello", model="fast", seed=1, max_tokens=40)
    assert cut.end.finish_reason == chat_pb2.FINISH_REASON_LENGTH
    rest = await peer.ask([("user", "Hello"), ("assistant", cut.text)], model="fast", seed=1)
    assert cut.text + rest.text == whole.text
    assert rest.end.finish_reason == chat_pb2.FINISH_REASON_STOP


async def test_answers_come_at_their_pace(peer: TestPeer) -> None:
    answer = await peer.ask("Hello")
    took = answer.times[-1] - answer.times[0]
    assert 0.5 < took < 3, "63 steps of 10 ms"
    assert len(answer.deltas) > 20, "tokens are not held back"


async def test_the_first_token_takes_its_time(peer: TestPeer) -> None:
    answer = await peer.ask("Hello", model="late", max_tokens=1)
    assert answer.times[0] - answer.started >= 0.29
    assert (await peer.model("late")).time_to_first_token_ms >= 290


async def test_many_answers_share_messages_and_do_not_mix(peer: TestPeer) -> None:
    alone = await peer.ask("Hello", seed=0)
    before = peer.messages
    await peer.send(starts=[peer.build("Hello", generation_id=f"m{n}", seed=n) for n in range(100)])
    answers = [await peer.answer(f"m{n}").finished() for n in range(100)]
    assert all(f"with seed {n}." in answer.text for n, answer in enumerate(answers))
    assert answers[0].text == alone.text
    assert {answer.tokens for answer in answers} == {64}
    messages = peer.messages - before
    assert messages < 64 * 100 / 10, f"{messages} messages for {64 * 100} tokens"


async def test_text_is_whole_characters(peer: TestPeer) -> None:
    answer = await peer.ask("Hello", model="scripted")
    assert answer.text == "Grüße aus 東京 👩🏽‍🚀. STOP here."
    assert "\ufffd" not in answer.text


async def test_a_stop_string_ends_the_answer_and_never_shows(peer: TestPeer) -> None:
    answer = await peer.ask("Hello", model="scripted", stop=["STOP", "nothing"])
    assert answer.text == "Grüße aus 東京 👩🏽‍🚀. "
    assert answer.end.finish_reason == chat_pb2.FINISH_REASON_STOP
    for length in range(len(answer.text)):
        assert not any(delta.text.endswith(("S", "ST", "STO")) for delta in answer.deltas), length


async def test_cancel_ends_one_answer_and_no_other(peer: TestPeer) -> None:
    first_id, first = await peer.start(model="endless")
    _, second = await peer.start(model="endless")
    await first.until(lambda answer: answer.tokens >= 3)
    await peer.send(cancels=[first_id, "unknown"])
    await first.finished()
    assert first.end.finish_reason == chat_pb2.FINISH_REASON_CANCELLED
    assert first.end.usage.completion_tokens == first.tokens
    seen = second.tokens
    await second.until(lambda answer: answer.tokens > seen + 5)
    assert (await peer.model("endless")).running == 1


async def test_the_end_of_the_stream_cancels_its_answers_and_no_others(
    process: InferenceProcess, connect: Connect
) -> None:
    stays, leaves, breaks = connect(process), connect(process), connect(process)
    answers = [await one.start(model="endless", generation_id="same-id") for one in (stays, leaves, breaks)]
    for _, answer in answers:
        await answer.until(lambda a: a.tokens >= 2)
    assert (await stays.model("endless")).running >= 3
    await leaves.done_writing()
    assert await leaves.ended() is grpc.StatusCode.OK
    await breaks.close()

    async def one_is_left() -> bool:
        return bool((await stays.model("endless")).running == 1)

    await eventually(one_is_left, "the generations of the ended streams are cancelled")
    seen = answers[0][1].tokens
    await answers[0][1].until(lambda a: a.tokens > seen + 5)


async def test_one_bad_start_harms_no_other(peer: TestPeer) -> None:
    _, good = await peer.start(model="endless")
    unknown = peer.build("Hello", model="no-such-model", generation_id="unknown")
    no_messages = peer.build([], generation_id="no-messages")
    hot = peer.build("Hello", generation_id="hot", temperature=9)
    no_role = peer.build("Hello", generation_id="no-role")
    no_role.messages[0].role = chat_pb2.ROLE_UNSPECIFIED
    long = peer.build("word " * 3000, generation_id="long")
    await peer.send(starts=[unknown, no_messages, hot, no_role, long])
    reasons = {
        name: reason(await peer.answer(name).finished()) for name in ("unknown", "no-messages", "hot", "no-role")
    }
    assert reasons == {
        "unknown": Reason.MODEL_NOT_FOUND,
        "no-messages": Reason.INVALID_FIELD,
        "hot": Reason.INVALID_FIELD,
        "no-role": Reason.INVALID_FIELD,
    }
    assert reason(await peer.answer("long").finished()) is Reason.CONTEXT_LENGTH_EXCEEDED
    seen = good.tokens
    await good.until(lambda answer: answer.tokens > seen + 5)


async def test_a_full_queue_refuses_and_a_free_slot_serves_in_order(peer: TestPeer) -> None:
    first_id, first = await peer.start(model="one-slot")
    await first.until(lambda answer: answer.tokens >= 1)
    second_id, second = await peer.start(model="one-slot")
    third_id, third = await peer.start(model="one-slot")
    refused = await peer.ask(model="one-slot")
    assert reason(refused) is Reason.OVERLOADED
    error = from_status(refused.end.error)
    assert error is not None
    assert error.retry_after_s is not None
    assert error.retry_after_s >= 1
    state = await peer.model("one-slot")
    assert (state.running, state.queued, state.slots) == (1, 2, 1)
    await peer.send(cancels=[second_id])
    await second.finished()
    assert second.tokens == 0
    assert second.end.finish_reason == chat_pb2.FINISH_REASON_CANCELLED
    await asyncio.sleep(0.2)
    await peer.send(cancels=[first_id])
    await third.until(lambda answer: answer.tokens >= 1)
    await peer.send(cancels=[third_id])
    await third.finished()
    assert third.end.queue_ms >= 200
    assert first.end.queue_ms < 50


async def test_scripted_faults(peer: TestPeer) -> None:
    failed = await peer.ask(model="failing")
    assert reason(failed) is Reason.ENGINE_FAILED
    assert failed.tokens == failed.end.usage.completion_tokens == 5
    stalled_id, stalled = await peer.start(model="stalling")
    await stalled.until(lambda answer: answer.tokens == 5)
    await peer.ask("Hello", model="fast")
    assert not stalled.ended
    await peer.send(cancels=[stalled_id])
    assert (await stalled.finished()).tokens == 5


async def test_a_repeated_start_is_ignored(peer: TestPeer) -> None:
    _, answer = await peer.start(generation_id="once", seed=1)
    await peer.start(generation_id="once", seed=2)
    await answer.finished()
    assert "with seed 1." in answer.text
    assert answer.tokens == 64


async def test_the_unpaced_engine_keeps_nobody_waiting(peer: TestPeer) -> None:
    started = time.monotonic()
    await peer.send(starts=[peer.build("Hello", model="fast", generation_id=f"u{n}", seed=n) for n in range(64)])
    answers = [await peer.answer(f"u{n}").finished() for n in range(64)]
    assert sum(answer.tokens for answer in answers) == 64 * 300
    assert time.monotonic() - started < 10


async def test_count_tokens_of_an_unknown_model(peer: TestPeer) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await peer.stub.CountTokens(inference_service_pb2.CountTokensRequest(model="no-such-model"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_status_comes_at_once_on_change_and_every_second(peer: TestPeer) -> None:
    watch = peer.stub.WatchStatus(inference_service_pb2.WatchStatusRequest())

    async def read() -> tuple[float, int]:
        said: Any = await watch.read()
        status = said.status
        assert status.replica_id == "replica-1"
        assert not status.draining
        return time.monotonic(), next(m.running for m in status.models if m.name == "endless")

    async with asyncio.timeout(20):
        started = time.monotonic()
        first, running = await read()
        assert first - started < 0.5
        second, _ = await read()
        assert second - first < 1.5, "a beat without a change"
        generation_id, _ = await peer.start(model="endless")
        while (await read())[1] != running + 1:
            pass
        assert time.monotonic() - second < 1.5
        await peer.send(cancels=[generation_id])
        while (await read())[1] != running:
            pass
    watch.cancel()
