"""Users of the API, as the edge passes them on."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import psycopg
from google.api import httpbody_pb2

from chatmesh.conversation.v1 import (
    conversation_pb2,
    conversation_service_pb2,
    generation_event_pb2,
    generation_service_pb2,
)
from chatmesh.conversation.v1.conversation_service_pb2_grpc import ConversationServiceStub
from chatmesh.conversation.v1.generation_service_pb2_grpc import GenerationServiceStub
from chatmesh.conversation.v1.openai_service_pb2_grpc import OpenAIServiceStub
from chatmesh.type.v1 import chat_pb2
from services.runtime.errors import DomainError, from_rpc_error
from tests.rpc.conversation.scripted import DEADLINE_S, eventually

Event = generation_event_pb2.GenerationEvent


class Reader:
    """Events, read to their end, and the text as a client shows it. With `before` a client goes on that was cut off."""

    def __init__(self, call: Any, *, before: Reader | None = None) -> None:
        self.events: list[Event] = list(before.events) if before else []
        self.text: str = before.text if before else ""
        self.error: DomainError | None = None
        self.code: grpc.StatusCode | None = None
        self._call = call
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for event in self._call:
                self._take(event)
        except grpc.aio.AioRpcError as error:
            self.code, self.error = error.code(), from_rpc_error(error, service="conversation")
        except asyncio.CancelledError:
            self.code = grpc.StatusCode.CANCELLED
        else:
            self.code = grpc.StatusCode.OK

    def _take(self, event: Event) -> None:
        before = self.events[-1] if self.events else None
        # What the contract promises of every stream.
        assert (event.WhichOneof("event") == "started") == (before is None)
        assert before is None or before.seq < event.seq
        assert not self.ended
        self.events.append(event)
        if event.HasField("delta"):
            assert event.delta.text
            self.text += event.delta.text
        elif event.HasField("retracted"):
            gone = event.retracted
            self.text = self.text[: gone.start] + gone.replacement + self.text[gone.end :]

    @property
    def seq(self) -> int:
        return self.events[-1].seq if self.events else 0

    @property
    def notices(self) -> list[int]:
        return [event.notice.kind for event in self.events if event.HasField("notice")]

    @property
    def ended(self) -> bool:
        return bool(self.events) and self.events[-1].WhichOneof("event") in ("completed", "failed")

    @property
    def kinds(self) -> list[str]:
        return [str(event.WhichOneof("event")) for event in self.events]

    @property
    def generation_id(self) -> str:
        return self.events[0].generation_id

    async def until(self, condition: Callable[[Reader], object], what: str) -> None:
        await eventually(lambda: condition(self) or self._task.done(), what)
        assert condition(self), f"{what}; the stream ended: {self.kinds} {self.error}"

    async def shows(self, text: str) -> None:
        await self.until(lambda reader: reader.text == text, f"{text!r} is shown")

    async def started(self) -> None:
        await self.until(lambda reader: reader.events, "the turn has begun")

    async def end(self) -> Event:
        """The terminal event."""
        await self._finish()
        assert self.ended, f"{self.kinds} {self.code} {self.error}"
        assert self.code is grpc.StatusCode.OK
        return self.events[-1]

    async def completed(self) -> conversation_pb2.Message:
        """The stored answer; its text is what was shown."""
        event = await self.end()
        assert event.HasField("completed"), event
        assert event.completed.message.content == self.text
        return event.completed.message

    async def failed(self) -> generation_event_pb2.GenerationFailed:
        event = await self.end()
        assert event.HasField("failed"), event
        return event.failed

    async def refusal(self) -> DomainError:
        """The error that the call ended in; it has sent nothing."""
        await self._finish()
        assert self.kinds == []
        assert self.error is not None
        return self.error

    async def leave(self) -> None:
        self._call.cancel()
        await self._finish()

    async def _finish(self) -> None:
        async with asyncio.timeout(DEADLINE_S):
            await self._task


class User:
    """A user with one conversation."""

    def __init__(self, channel: grpc.aio.Channel, *, tier: str = "pro") -> None:
        self.id = f"user-{uuid.uuid4().hex}"
        self.trace_id = uuid.uuid4().hex
        self._metadata: tuple[tuple[str, str], ...] = (
            ("x-chatmesh-user", self.id),
            ("x-chatmesh-tier", tier),
            ("x-request-id", str(uuid.uuid4())),
            ("traceparent", f"00-{self.trace_id}-{uuid.uuid4().hex[:16]}-01"),
        )
        self.conversation_id = ""
        self.move_to(channel)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """As the edge sends it."""
        return self._metadata

    @classmethod
    def of(cls, other: User, channel: grpc.aio.Channel) -> User:
        """The same user at another process."""
        user = cls(channel)
        user.id, user.conversation_id, user._metadata = other.id, other.conversation_id, other._metadata
        return user

    def move_to(self, channel: grpc.aio.Channel) -> None:
        """Go on with another process."""
        self._stub = ConversationServiceStub(channel)
        self._generations = GenerationServiceStub(channel)
        self._openai = OpenAIServiceStub(channel)

    async def begin(self, **fields: Any) -> User:
        request = conversation_service_pb2.CreateConversationRequest(**fields)
        self.conversation_id = (await self._stub.CreateConversation(request, metadata=self._metadata)).id
        return self

    def stream(self, content: str = "Hello", *, timeout: float | None = None, **fields: Any) -> Reader:
        return Reader(
            self._stub.StreamMessage(self._request(content, fields), timeout=timeout, metadata=self._metadata)
        )

    def regenerate(self, message_id: str) -> Reader:
        request = conversation_service_pb2.RegenerateMessageRequest(
            conversation_id=self.conversation_id, message_id=message_id
        )
        return Reader(self._stub.RegenerateMessage(request, metadata=self._metadata))

    async def send(
        self, content: str = "Hello", *, timeout: float | None = None, **fields: Any
    ) -> conversation_pb2.Message:
        try:
            return await self._stub.SendMessage(
                self._request(content, fields), timeout=timeout, metadata=self._metadata
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service="conversation") from error

    async def appeal(self, message_id: str, appeal: str = "It is fine.") -> conversation_pb2.Message:
        request = conversation_service_pb2.AppealMessageRequest(
            conversation_id=self.conversation_id, message_id=message_id, appeal=appeal
        )
        try:
            return await self._stub.AppealMessage(request, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service="conversation") from error

    async def messages(self) -> Sequence[conversation_pb2.Message]:
        request = conversation_service_pb2.ListMessagesRequest(conversation_id=self.conversation_id)
        return (await self._stub.ListMessages(request, metadata=self._metadata)).messages

    async def conversation(self) -> conversation_pb2.Conversation:
        request = conversation_service_pb2.GetConversationRequest(conversation_id=self.conversation_id)
        return await self._stub.GetConversation(request, metadata=self._metadata)

    def watch(self, generation_id: str, *, before: Reader | None = None, timeout: float | None = None) -> Reader:
        """Watch a generation from the start, or go on after what a reader has seen."""
        request = generation_service_pb2.WatchGenerationRequest(
            generation_id=generation_id, after_seq=before.seq if before else 0
        )
        return Reader(
            self._generations.WatchGeneration(request, timeout=timeout, metadata=self._metadata), before=before
        )

    async def stop(self, generation_id: str) -> generation_service_pb2.Generation:
        request = generation_service_pb2.StopGenerationRequest(generation_id=generation_id)
        try:
            return await self._generations.StopGeneration(request, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service="conversation") from error

    async def generation(self, generation_id: str) -> generation_service_pb2.Generation:
        request = generation_service_pb2.GetGenerationRequest(generation_id=generation_id)
        return await self._generations.GetGeneration(request, metadata=self._metadata)

    async def generations(self) -> Sequence[generation_service_pb2.Generation]:
        request = generation_service_pb2.ListGenerationsRequest(conversation_id=self.conversation_id)
        return (await self._generations.ListGenerations(request, metadata=self._metadata)).generations

    def converse(self) -> Any:
        """A stream on which the user says and hears everything."""
        return self._generations.Converse(metadata=self._metadata)

    def temporary(self, *messages: chat_pb2.ChatMessage, **fields: Any) -> Reader:
        """A chat that is never stored."""
        request = conversation_service_pb2.StreamTemporaryMessageRequest(messages=messages, **fields)
        return Reader(self._stub.StreamTemporaryMessage(request, metadata=self._metadata))

    async def undelete(self) -> None:
        request = conversation_service_pb2.UndeleteConversationRequest(conversation_id=self.conversation_id)
        await self._stub.UndeleteConversation(request, metadata=self._metadata)

    async def delete(self) -> None:
        request = conversation_service_pb2.DeleteConversationRequest(conversation_id=self.conversation_id)
        await self._stub.DeleteConversation(request, metadata=self._metadata)

    async def stored(self, condition: Callable[[conversation_pb2.Message], object], what: str) -> Any:
        """Wait until the newest message is so."""
        found: Sequence[conversation_pb2.Message] = []
        async with asyncio.timeout(DEADLINE_S):
            while not found or not condition(found[-1]):
                await asyncio.sleep(0.01)
                found = await self.messages()
        return found[-1]

    def complete(self, *texts: str, **fields: Any) -> Any:
        """A call of the OpenAI surface."""
        body = {"model": "auto", "messages": [{"role": "user", "content": text} for text in texts], **fields}
        request = httpbody_pb2.HttpBody(content_type="application/json", data=json.dumps(body).encode())
        return self._openai.CreateChatCompletion(request, metadata=self._metadata)

    def _request(self, content: str, fields: dict[str, Any]) -> conversation_service_pb2.SendMessageRequest:
        return conversation_service_pb2.SendMessageRequest(
            conversation_id=self.conversation_id, content=content, **fields
        )


def stored_answer(database_url: str, generation_id: str) -> tuple[str, str]:
    """Text and status of an answer as the database has them, for when no process is left to ask."""
    with psycopg.connect(database_url) as connection:
        [row] = connection.execute(
            "SELECT content, status FROM conversation.messages WHERE role = 'assistant' AND generation_id = %s",
            [generation_id],
        ).fetchall()
        return row[0], row[1]
