"""One client's stream of messages, stops, watches and acknowledgements, and of the events that follow from them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from services.conversation.convert import error_summary
from services.conversation.generation_log import Entry
from services.conversation.generation_store import GenerationStore
from services.conversation.model import ErrorSummary, Generation, GenerationState
from services.conversation.stop import StopGeneration
from services.conversation.turn import TurnRequest, TurnRunner
from services.conversation.watch import Watch
from services.runtime.errors import DomainError, Reason, internal_error
from services.runtime.identity import Identity, current_scope

_log = logging.getLogger(__name__)

MAX_READY = 64
"""Replies that wait for a slow connection; what comes after gathers in the logs and not here."""
MAX_RUNNING = 100
"""Requests of one stream that run at the same time."""


@dataclass(frozen=True, slots=True)
class Open:
    """How the stream is to behave; 0 is no bound."""

    max_unacknowledged: int


@dataclass(frozen=True, slots=True)
class WatchFrom:
    """Watch a generation after a position."""

    generation_id: str
    after_seq: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop a generation."""

    generation_id: str


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """How far the client has come."""

    generation_id: str
    seq: int


@dataclass(frozen=True, slots=True)
class Said:
    """What a client says; None for nothing, an error for what breaks its limits."""

    tag: str
    content: Open | TurnRequest | WatchFrom | Stop | Acknowledge | DomainError | None


@dataclass(frozen=True, slots=True)
class Shown:
    """An event."""

    generation_id: str
    entry: Entry


@dataclass(frozen=True, slots=True)
class Refused:
    """A request was refused."""

    error: ErrorSummary


@dataclass(frozen=True, slots=True)
class Stopped:
    """A generation after it was asked to stop."""

    generation: Generation


@dataclass(frozen=True, slots=True)
class Reply:
    """What is said to the client."""

    tag: str
    content: Shown | Refused | Stopped


class Converse:
    """What the sessions need."""

    def __init__(self, *, turns: TurnRunner, watch: Watch, stop: StopGeneration, generations: GenerationStore) -> None:
        self.turns = turns
        self.watch = watch
        self.stop = stop
        self.generations = generations


class _Flow:
    """The events of one generation that the client has not acknowledged."""

    def __init__(self) -> None:
        self._sent: deque[int] = deque()
        self._moved = asyncio.Event()
        self._open = False

    def acknowledge(self, seq: int) -> None:
        """The client has dealt with everything up to a position."""
        while self._sent and self._sent[0] <= seq:
            self._sent.popleft()
        self._moved.set()

    def open(self) -> None:
        """Hold nothing back any more."""
        self._open = True
        self._moved.set()

    async def send(self, seq: int, *, window: int) -> None:
        """Wait until one more may be under way."""
        while window and not self._open and len(self._sent) >= window:
            self._moved.clear()
            await self._moved.wait()
        if window:
            self._sent.append(seq)


class ConverseSession:
    """One stream. Ends no generation when it ends. Use as an async context manager."""

    def __init__(self, converse: Converse, identity: Identity, said: AsyncIterator[Said]) -> None:
        self._converse = converse
        self._identity = identity
        self._said = said
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready: deque[Reply] = deque()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._failure: DomainError | None = None
        self._window = 0
        self._flows: dict[str, list[_Flow]] = {}

    async def __aenter__(self) -> Self:
        self._start(self._listen())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def replies(self) -> AsyncIterator[Reply]:
        """All replies, until the client has said all and everything that it asked for has come to its end.

        Raises:
            DomainError: PROTOCOL_VIOLATION, or that nothing more of the client can be read.
        """
        while True:
            while self._ready:
                reply = self._ready.popleft()
                self._room.set()
                yield reply
            if self._failure is not None:
                raise self._failure
            if not self._tasks:
                return
            self._news.clear()
            await self._news.wait()

    async def _listen(self) -> None:
        try:
            await self._hear_all()
        except DomainError as error:
            self._failure = error
        except Exception:  # noqa: BLE001 - the client must not take it for the end
            _log.exception("a stream can not be read")
            self._failure = internal_error(current_scope().request_id)
        # Who has said all acknowledges nothing any more.
        self._window = 0
        for flows in self._flows.values():
            for flow in flows:
                flow.open()

    async def _hear_all(self) -> None:
        first = True
        async for said in self._said:
            content = said.content
            match content:
                case Open(window) if first:
                    self._window = window
                case Acknowledge(generation_id, seq):
                    for flow in self._flows.get(generation_id, ()):
                        flow.acknowledge(seq)
                case DomainError():
                    await self._say(Reply(said.tag, Refused(error_summary(content))))
                case TurnRequest() | WatchFrom() | Stop() if len(self._tasks) > MAX_RUNNING:
                    # This is one of the tasks. Who does not read what is refused is not heard any further.
                    await self._say(Reply(said.tag, Refused(error_summary(_too_many()))))
                case TurnRequest() | WatchFrom() | Stop():
                    self._start(self._answer(said.tag, content))
                case _:
                    raise DomainError(
                        Reason.PROTOCOL_VIOLATION,
                        "Say one thing in each message; `open` may only come first.",
                        metadata={"expected": "send, edit, regenerate, watch, stop, acknowledge"},
                    )
            first = False

    async def _answer(self, tag: str, asked: TurnRequest | WatchFrom | Stop) -> None:
        try:
            match asked:
                case TurnRequest():
                    begun = await self._converse.turns.begin(self._identity, asked)
                    await self._show(tag, begun.generation_id, self._converse.turns.events(begun))
                case WatchFrom(generation_id, after_seq):
                    found = await self._converse.generations.get(
                        user_id=self._identity.user_id, generation_id=generation_id
                    )
                    await self._converse.watch.check(found, after_seq=after_seq)
                    ended = found.state is not GenerationState.OPEN
                    events = self._converse.watch.events(
                        found.id, after_seq=after_seq, ended=ended, revised=found.revised
                    )
                    await self._show(tag, found.id, events)
                case Stop(generation_id):
                    stopped = await self._converse.stop.stop(
                        user_id=self._identity.user_id, generation_id=generation_id
                    )
                    await self._say(Reply(tag, Stopped(stopped)))
        except DomainError as error:
            await self._say(Reply(tag, Refused(error_summary(error))))
        except Exception:  # noqa: BLE001 - one request must not end the others of the stream
            _log.exception("a request on a stream failed")
            await self._say(Reply(tag, Refused(error_summary(internal_error(current_scope().request_id)))))

    async def _show(self, tag: str, generation_id: str, events: AsyncIterator[Sequence[Entry]]) -> None:
        flow = _Flow()
        flows = self._flows.setdefault(generation_id, [])
        flows.append(flow)
        try:
            async for entries in events:
                for entry in entries:
                    await flow.send(entry.seq, window=self._window)
                    await self._say(Reply(tag, Shown(generation_id, entry)))
        finally:
            flows.remove(flow)
            if not flows:
                del self._flows[generation_id]

    async def _say(self, reply: Reply) -> None:
        while len(self._ready) >= MAX_READY:
            self._room.clear()
            await self._room.wait()
        self._ready.append(reply)
        self._news.set()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._news.set()


def _too_many() -> DomainError:
    return DomainError(
        Reason.OVERLOADED,
        f"At most {MAX_RUNNING} requests of one stream can run at the same time; wait for one to end.",
        retry_after_s=1.0,
    )
