"""A mesh as its clients see it: gRPC through the edge, with a token. The one place here that knows the contracts."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable
from urllib.parse import urlsplit

import grpc

from chatmesh.conversation.v1 import (
    conversation_pb2,
    conversation_service_pb2,
    conversation_service_pb2_grpc,
    generation_event_pb2,
    generation_service_pb2,
    generation_service_pb2_grpc,
    openai_service_pb2,
    openai_service_pb2_grpc,
)
from chatmesh.type.v1 import chat_pb2
from services.cli.errors import CliError
from services.cli.keys import SigningKey
from services.cli.settings import CliSettings
from services.cli.state import read_state

CALL_TIMEOUT_S = 15.0
_STATUS_DETAILS_KEY = "grpc-status-details-bin"
_LOCAL_TOKEN_TTL_S = 12 * 3600.0

Steps = Iterator["Step"]
Request = TypeVar("Request")
Response = TypeVar("Response")


class RemoteError(Exception):
    """A call failed; the text is for people. `lost` when the connection broke, so that asking again may help."""

    def __init__(self, message: str, *, lost: bool = False) -> None:
        super().__init__(message)
        self.lost = lost


@dataclass(frozen=True, slots=True)
class Target:
    """Where a mesh is, and who one is there."""

    url: str
    token: str


def find_target(settings: CliSettings, *, user: str) -> Target:
    """The mesh of CHATMESH_URL with CHATMESH_TOKEN, or the one of this home with a token of its own making.

    Raises:
        CliError: there is none, or there is no token for it.
    """
    if settings.url:
        if not settings.token:
            raise CliError("CHATMESH_URL is set but CHATMESH_TOKEN is not: a token of that mesh is needed")
        return Target(settings.url, settings.token)
    record = read_state(settings.home.state_file)
    if record is None or not record.supervisor.is_alive():
        raise CliError(
            f"no chatmesh runs in {settings.home.root}. Start it with `chatmesh up`, or set CHATMESH_URL and "
            "CHATMESH_TOKEN to use another."
        )
    token = SigningKey(settings.home.keys).sign(user=user, tier="", ttl_s=_LOCAL_TOKEN_TTL_S)
    return Target(record.address, token)


@dataclass(frozen=True, slots=True)
class Started:
    """The turn has begun."""


@dataclass(frozen=True, slots=True)
class Delta:
    """More text."""

    text: str


@dataclass(frozen=True, slots=True)
class Retracted:
    """Text that must go, in code points."""

    start: int
    end: int
    replacement: str
    category: str


@dataclass(frozen=True, slots=True)
class Completed:
    """The answer is complete: `text` as it is stored. `stopped` when it is what there was when somebody stopped it."""

    text: str
    model: str
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """There will be no more."""

    message: str


@dataclass(frozen=True, slots=True)
class Notice:
    """Something happened that changes nothing of the text; `text` says what, empty when people need not know."""

    text: str


Event = Started | Delta | Retracted | Notice | Completed | Failed


@dataclass(frozen=True, slots=True)
class Step:
    """One event with its place: whoever saw this one goes on after `seq`."""

    generation_id: str
    seq: int
    event: Event


@dataclass(frozen=True, slots=True)
class Conversation:
    """One line of the list of conversations."""

    id: str
    title: str
    model: str
    message_count: int


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation; `note` says what became of an answer that was not completed."""

    speaker: str
    text: str
    note: str


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One model or alias, as a mesh tells its users of it."""

    name: str


class Remote:
    """Calls to one mesh. Raises `RemoteError` only."""

    def __init__(self, *, channel: grpc.Channel, token: str) -> None:
        self._metadata = (("authorization", f"Bearer {token}"),)
        self._conversations = conversation_service_pb2_grpc.ConversationServiceStub(channel)
        self._generations = generation_service_pb2_grpc.GenerationServiceStub(channel)
        self._openai = openai_service_pb2_grpc.OpenAIServiceStub(channel)

    def create_conversation(self, *, model: str, system_prompt: str) -> str:
        """Make a conversation; returns its id."""
        request = conversation_service_pb2.CreateConversationRequest(
            model=model, system_prompt=system_prompt, request_id=str(uuid.uuid4())
        )
        return self._call(self._conversations.CreateConversation, request).id

    def get_conversation(self, conversation_id: str) -> Conversation:
        """One conversation."""
        request = conversation_service_pb2.GetConversationRequest(conversation_id=conversation_id)
        return _conversation(self._call(self._conversations.GetConversation, request))

    def list_conversations(self, *, limit: int) -> list[Conversation]:
        """The conversations that were changed last."""
        request = conversation_service_pb2.ListConversationsRequest(page_size=limit)
        answer = self._call(self._conversations.ListConversations, request)
        return [_conversation(entry) for entry in answer.conversations]

    def set_title(self, conversation_id: str, title: str) -> None:
        """Rename a conversation."""
        request = conversation_service_pb2.UpdateConversationRequest(conversation_id=conversation_id, title=title)
        self._call(self._conversations.UpdateConversation, request)

    def list_messages(self, conversation_id: str, *, limit: int) -> list[Message]:
        """The last messages, oldest first."""
        request = conversation_service_pb2.ListMessagesRequest(
            conversation_id=conversation_id,
            page_size=limit,
            order=conversation_service_pb2.MESSAGE_ORDER_NEWEST_FIRST,
        )
        answer = self._call(self._conversations.ListMessages, request)
        return [_message(entry) for entry in reversed(answer.messages)]

    @contextmanager
    def stream_message(self, conversation_id: str, *, text: str, model: str, request_id: str) -> Iterator[Steps]:
        """Send a message; the block gets the events of the answer. Leaving it early cancels the call, not the turn."""
        request = conversation_service_pb2.SendMessageRequest(
            conversation_id=conversation_id, content=text, model=model, request_id=request_id
        )
        call = self._conversations.StreamMessage(request, metadata=self._metadata)
        try:
            yield _steps(call)
        finally:
            call.cancel()

    @contextmanager
    def watch_generation(self, generation_id: str, *, after_seq: int) -> Iterator[Steps]:
        """The block gets the events of an answer that come after the one with `after_seq`."""
        request = generation_service_pb2.WatchGenerationRequest(generation_id=generation_id, after_seq=after_seq)
        call = self._generations.WatchGeneration(request, metadata=self._metadata)
        try:
            yield _steps(call)
        finally:
            call.cancel()

    def stop_generation(self, generation_id: str) -> None:
        """Stop an answer. What was shown of it stays."""
        request = generation_service_pb2.StopGenerationRequest(generation_id=generation_id)
        self._call(self._generations.StopGeneration, request)

    def list_models(self) -> list[ModelInfo]:
        """Models and aliases, by the OpenAI-compatible endpoint."""
        request = openai_service_pb2.ListModelsRequest()
        body = self._call(self._openai.ListModels, request)
        return [ModelInfo(str(entry["id"])) for entry in json.loads(body.data)["data"]]

    def _call(self, method: grpc.UnaryUnaryMultiCallable[Request, Response], request: Request) -> Response:
        try:
            return method(request, metadata=self._metadata, timeout=CALL_TIMEOUT_S)
        except grpc.RpcError as error:
            raise _remote_error(error) from error


@contextmanager
def connected(target: Target) -> Iterator[Remote]:
    """A connection to a mesh for as long as the block lasts."""
    parts = urlsplit(target.url)
    secure = parts.scheme == "https"
    address = f"{parts.hostname}:{parts.port or (443 if secure else 80)}"
    options = [
        ("grpc.max_receive_message_length", 16 * 1024 * 1024),
        # An edge that was restarted is back within a second; the defaults would leave it alone for much longer.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1_000),
        # One that is gone without having said so is found out while an answer is waited for.
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 5_000),
    ]
    channel = (
        grpc.secure_channel(address, grpc.ssl_channel_credentials(), options=options)
        if secure
        else grpc.insecure_channel(address, options=options)
    )
    with channel:
        yield Remote(channel=channel, token=target.token)


_NOTICES = {
    generation_event_pb2.NOTICE_KIND_ENGINE_REPLACED: "the engine failed; another one goes on with the answer",
    generation_event_pb2.NOTICE_KIND_OWNER_REPLACED: "the server failed; another one goes on with the answer",
}


def _steps(call: Iterator[generation_event_pb2.GenerationEvent]) -> Steps:
    try:
        for message in call:
            event = _event(message)
            if event is not None:
                yield Step(message.generation_id, message.seq, event)
            if isinstance(event, Completed | Failed):
                return
    except grpc.RpcError as error:
        raise _remote_error(error) from error
    raise RemoteError("the answer was cut off", lost=True)


def _event(message: generation_event_pb2.GenerationEvent) -> Event | None:
    """None for a kind that only later versions know."""
    match message.WhichOneof("event"):
        case "started":
            return Started()
        case "delta":
            return Delta(message.delta.text)
        case "retracted":
            gone = message.retracted
            return Retracted(gone.start, gone.end, gone.replacement, gone.category)
        case "notice":
            return Notice(_NOTICES.get(message.notice.kind, ""))
        case "completed":
            stored = message.completed.message
            stopped = stored.status == conversation_pb2.MESSAGE_STATUS_STOPPED
            return Completed(stored.content, stored.model, stopped=stopped)
        case "failed":
            return Failed(message.failed.error.message)
        case _:
            return None


@runtime_checkable
class _Ended(Protocol):
    """What every error of a call has beside being one, though its type does not say so."""

    def code(self) -> grpc.StatusCode:
        """The status code."""
        ...

    def details(self) -> str | None:
        """The text."""
        ...

    def trailing_metadata(self) -> Iterable[tuple[str, str | bytes]] | None:
        """What came with the status."""
        ...


# How a connection that breaks in the middle of a call looks from here, beside UNAVAILABLE.
_BROKEN = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.CANCELLED})


def _is_lost(error: _Ended) -> bool:
    """Whether the connection failed, and not what was asked. A service's own errors always come with their details."""
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return True
    keys = {key for key, _ in error.trailing_metadata() or ()}
    return error.code() in _BROKEN and _STATUS_DETAILS_KEY not in keys


def _remote_error(error: grpc.RpcError) -> RemoteError:
    if not isinstance(error, _Ended):
        return RemoteError("the call failed")
    details = error.details() or error.code().name
    if error.code() is grpc.StatusCode.UNAUTHENTICATED:
        details += " (is the token of this mesh, and still good?)"
    return RemoteError(details, lost=_is_lost(error))


def _conversation(entry: conversation_pb2.Conversation) -> Conversation:
    return Conversation(entry.id, entry.title, entry.model, entry.message_count)


_NOTES = {
    conversation_pb2.MESSAGE_STATUS_IN_PROGRESS: "still being written",
    conversation_pb2.MESSAGE_STATUS_STOPPED: "stopped",
    conversation_pb2.MESSAGE_STATUS_FAILED: "failed",
    conversation_pb2.MESSAGE_STATUS_BLOCKED: "blocked by moderation",
}


def _message(entry: conversation_pb2.Message) -> Message:
    speaker = "you" if entry.role == chat_pb2.ROLE_USER else (entry.model or "assistant")
    return Message(speaker, entry.content, _NOTES.get(entry.status, ""))
