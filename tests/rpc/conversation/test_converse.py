"""One stream for all: messages, stops, watches and acknowledgements in, events of all of their generations out."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import grpc
import pytest

from chatmesh.conversation.v1 import conversation_service_pb2, generation_service_pb2
from services.conversation.converse import MAX_RUNNING
from services.runtime.errors import Reason, from_rpc_error
from tests.rpc.conversation.script import SCRIPT, TEXT, write, write_out
from tests.rpc.conversation.scripted import eventually
from tests.rpc.conversation.stage import Stage
from tests.rpc.conversation.streams import words
from tests.rpc.conversation.user import User

pytestmark = pytest.mark.asyncio(loop_scope="session")

Request = generation_service_pb2.ConverseRequest
Response = generation_service_pb2.ConverseResponse
STOPPED = generation_service_pb2.GENERATION_STATE_STOPPED


class Talk:
    """One stream, and what was heard on it."""

    def __init__(self, user: User) -> None:
        self.user = user
        self.heard: list[Response] = []
        self.code: grpc.StatusCode | None = None
        self.error: Any = None
        self._call = user.converse()
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for response in self._call:
                self.heard.append(response)
        except grpc.aio.AioRpcError as error:
            self.code, self.error = error.code(), from_rpc_error(error, service="conversation")
        else:
            self.code = grpc.StatusCode.OK

    async def say(self, tag: str = "", **request: Any) -> None:
        await self._call.write(Request(tag=tag, **request))

    async def send(self, tag: str, content: str = "Hello", **fields: Any) -> None:
        message = conversation_service_pb2.SendMessageRequest(
            conversation_id=self.user.conversation_id, content=content, **fields
        )
        await self.say(tag, send=message)

    def of(self, tag: str) -> list[Response]:
        return [response for response in self.heard if response.tag == tag]

    def kinds(self, tag: str) -> list[str]:
        return [
            str(r.event.WhichOneof("event") if r.HasField("event") else r.WhichOneof("response")) for r in self.of(tag)
        ]

    def text(self, tag: str) -> str:
        return "".join(response.event.delta.text for response in self.of(tag))

    async def hears(self, tag: str, kind: str) -> Response:
        await eventually(lambda: kind in self.kinds(tag) or self._task.done(), f"{kind} for {tag}")
        return self.of(tag)[self.kinds(tag).index(kind)]

    async def error_of(self, tag: str) -> str:
        return str((await self.hears(tag, "error")).error.reason)

    async def close(self) -> None:
        """Say no more, and hear the rest."""
        await self._call.done_writing()
        async with asyncio.timeout(30):
            await self._task

    async def leave(self) -> None:
        self._call.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def begin(stage: Stage, talk: Talk, tag: str) -> Any:
    stage.prepare()
    await talk.send(tag)
    start = await stage.engine.next_start()
    await talk.hears(tag, "started")
    return start


async def test_two_conversations_on_one_stream(stage: Stage) -> None:
    user, other = await stage.user(), await stage.user()
    talk = Talk(user)
    first = await begin(stage, talk, "one")
    other_reader, second = await stage.turn(other)
    write(stage.engine, first, 3)
    await eventually(lambda: talk.text("one") == "w1 w2 w3 ", "its text comes")
    # A generation of another user is nobody's here.
    await talk.say("theirs", watch=generation_service_pb2.WatchGenerationRequest(generation_id=second.generation_id))
    assert await talk.error_of("theirs") == Reason.GENERATION_NOT_FOUND
    # The same generation again, from a position: only what is new.
    seq = talk.of("one")[-1].event.seq
    await talk.say(
        "rest", watch=generation_service_pb2.WatchGenerationRequest(generation_id=first.generation_id, after_seq=seq)
    )
    await talk.say("stop", stop=generation_service_pb2.StopGenerationRequest(generation_id=first.generation_id))
    stopped = (await talk.hears("stop", "stopped")).stopped
    assert (stopped.id, stopped.state) == (first.generation_id, STOPPED)
    await talk.close()
    assert talk.code is grpc.StatusCode.OK
    assert talk.kinds("one")[-1] == "completed"
    assert talk.kinds("rest") == ["completed"]
    assert talk.of("rest")[-1].event == talk.of("one")[-1].event
    stage.engine.finish(second.generation_id, "Hi.")
    await other_reader.completed()


async def test_what_is_wrong_is_refused_and_the_stream_goes_on(stage: Stage) -> None:
    user = await stage.user()
    talk = Talk(user)
    await talk.send("blank", " ")
    assert await talk.error_of("blank") == Reason.INVALID_FIELD
    for tag, id_ in (("unknown", str(uuid.uuid4())), ("no id", "no id")):
        await talk.say(tag, watch=generation_service_pb2.WatchGenerationRequest(generation_id=id_))
        assert await talk.error_of(tag) == Reason.GENERATION_NOT_FOUND
    await talk.say("stop", stop=generation_service_pb2.StopGenerationRequest(generation_id=str(uuid.uuid4())))
    assert await talk.error_of("stop") == Reason.GENERATION_NOT_FOUND
    start = await begin(stage, talk, "fine")
    await talk.send("busy")
    assert await talk.error_of("busy") == Reason.CONVERSATION_BUSY
    write_out(stage.engine, start)
    await talk.close()
    assert talk.text("fine") == TEXT
    assert talk.code is grpc.StatusCode.OK


@pytest.mark.parametrize("late", [False, True])
async def test_what_says_nothing_ends_the_stream(stage: Stage, late: bool) -> None:
    talk = Talk(await stage.user())
    if late:
        await talk.say(open=generation_service_pb2.ConverseOpen(max_unacknowledged=1))
        await talk.say(open=generation_service_pb2.ConverseOpen(max_unacknowledged=1))
    else:
        await talk.say("nothing")
    await eventually(lambda: talk.code, "the stream ends")
    assert talk.error.reason is Reason.PROTOCOL_VIOLATION


async def test_the_window_of_what_is_not_acknowledged(stage: Stage) -> None:
    user = await stage.user()
    talk = Talk(user)
    await talk.say(open=generation_service_pb2.ConverseOpen(max_unacknowledged=2))
    start = await begin(stage, talk, "one")
    # Who watches without a window shows when each token has come through.
    watcher = user.watch(start.generation_id)
    for count in range(10):
        write(stage.engine, start, 1, already=count)
        await watcher.shows("".join(text for text, _ in SCRIPT[: count + 1]))
    assert talk.kinds("one") == ["started", "delta"]
    assert talk.text("one") == "w1 "
    last = talk.of("one")[-1].event
    acknowledge = generation_service_pb2.ConverseAcknowledge
    await talk.say(acknowledge=acknowledge(generation_id=str(uuid.uuid4()), seq=last.seq))
    await talk.say(acknowledge=acknowledge(generation_id=start.generation_id, seq=last.seq))
    # What has gathered comes merged; it was read when the window was full, all but the first of it.
    await eventually(lambda: len(talk.of("one")) == 4, "two more may be under way")
    assert talk.kinds("one") == ["started", "delta", "delta", "delta"]
    assert talk.text("one") == "".join(text for text, _ in SCRIPT[:10])
    write_out(stage.engine, start, already=10)
    await watcher.completed()
    assert len(talk.of("one")) == 4
    while "completed" not in talk.kinds("one"):
        heard = len(talk.of("one"))
        last = talk.of("one")[-1].event
        await talk.say(acknowledge=acknowledge(generation_id=start.generation_id, seq=last.seq))
        await eventually(lambda heard=heard: len(talk.of("one")) > heard, "there is more")  # type: ignore[misc]
    await talk.close()
    assert talk.kinds("one")[-1] == "completed"
    assert talk.text("one") == TEXT


async def test_who_has_said_all_acknowledges_no_more(stage: Stage) -> None:
    talk = Talk(await stage.user())
    await talk.say(open=generation_service_pb2.ConverseOpen(max_unacknowledged=1))
    start = await begin(stage, talk, "one")
    write_out(stage.engine, start)
    # The window is full, and nobody will ever make room in it.
    await talk.close()
    assert talk.kinds("one")[-1] == "completed"
    assert talk.text("one") == TEXT
    assert talk.code is grpc.StatusCode.OK


async def test_too_many_at_the_same_time(stage: Stage) -> None:
    talk = Talk(await stage.user())
    start = await begin(stage, talk, "one")
    watch = generation_service_pb2.WatchGenerationRequest(generation_id=start.generation_id)
    tags = [str(number) for number in range(MAX_RUNNING - 1)]
    for tag in tags:
        await talk.say(tag, watch=watch)
    await talk.say("too many", watch=watch)
    assert await talk.error_of("too many") == Reason.OVERLOADED
    write_out(stage.engine, start)
    for tag in ["one", *tags]:
        await talk.hears(tag, "completed")
    await talk.close()
    assert talk.kinds("too many") == ["error"]
    assert talk.code is grpc.StatusCode.OK


async def test_who_leaves_ends_no_generation(stage: Stage) -> None:
    user = await stage.user()
    talk = Talk(user)
    start = await begin(stage, talk, "one")
    stage.engine.say(words(start.generation_id, "one "))
    await talk.hears("one", "delta")
    await talk.leave()
    await user.messages()
    watcher = user.watch(start.generation_id)
    stage.engine.finish(start.generation_id, "two")
    assert (await watcher.completed()).content == "one two"
    assert stage.engine.cancelled == []
