"""A turn of a conversation, from the user's message to the stored answer.

Once it has begun, a turn belongs to this process and not to the call that asked for it: when the client goes away or
its deadline passes, it runs on and is stored. When this process dies, another one takes it over; see `ownership.py`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.conversation.chat_model import Sampling
from services.conversation.convert import domain_error
from services.conversation.generation_log import Entry, GenerationLog
from services.conversation.generator import Generator
from services.conversation.log_writer import LogWriter
from services.conversation.model import Message, OpenTurn, TurnTarget
from services.conversation.preparation import Preparation
from services.conversation.store import request_id_reused
from services.conversation.turn_end import Result, TurnEnding
from services.conversation.turn_generation import TurnGeneration
from services.conversation.turn_queue import TurnQueue
from services.conversation.turn_store import GenerationMovedError, KnownRequest, TurnStore
from services.conversation.watch import Watch
from services.runtime.clock import Clock
from services.runtime.errors import DomainError, Reason, internal_error
from services.runtime.identity import CallScope, Identity, current_scope, enter_scope
from services.runtime.live_tasks import LiveTasks

_log = logging.getLogger(__name__)

BUSY_RETRY_S = 0.1
MAX_BUSY_RETRY_S = 1.0
"""How often a conversation is asked whose generation has ended for its readers, and not yet for the database."""
LOST_POSITIONS = 1_000_000
"""Positions that are left free where a log may lack what was shown: more events than one answer can have."""


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """What the user asks."""

    conversation_id: str
    content: str
    """Empty when an answer is generated anew."""
    model: str
    sampling: Sampling
    request_id: str
    target: TurnTarget = field(default_factory=TurnTarget)
    queue: bool = False
    """Whether to wait while an answer is being generated in the conversation, and not be refused."""

    def digest(self) -> str:
        """A hash of what is asked."""
        value = [self.conversation_id, self.content, self.model, repr(self.sampling), repr(self.target)]
        return hashlib.sha256(json.dumps(value).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Begun:
    """A turn that has begun, now or with an earlier use of its request_id. `log` is None when it does not run here."""

    generation_id: str
    log: GenerationLog | None
    answer: Message | None = None
    """How it has ended, when the database knows that by now. The log may lack the end: its owner says it after that."""


@dataclass(frozen=True, slots=True)
class _RunningRequest:
    digest: str
    ready: asyncio.Future[Begun]
    """Set once the log holds `started`; the refusal when it never will."""


@dataclass(slots=True)
class Running:
    """A turn that runs here."""

    epoch: int
    task: asyncio.Task[None]
    log: GenerationLog
    settled: bool = False
    """Whether its end is being stored; the database may then know more of it than this process."""

    @property
    def begun(self) -> bool:
        """Whether something of it may have been shown. What was not stored was not: who takes over can begin anew."""
        return self.log.shown


class TurnRunner:
    """Begins turns and keeps those that run.

    Args:
        on_completed: Told of each turn that was answered and stored.
    """

    def __init__(
        self,
        *,
        store: TurnStore,
        ending: TurnEnding,
        preparation: Preparation,
        generator: Generator,
        writer: LogWriter,
        watch: Watch,
        clock: Clock,
        drain_grace_s: float,
        on_completed: Callable[[OpenTurn, Message], None],
    ) -> None:
        self._store = store
        self._ending = ending
        self._generation = TurnGeneration(store=store, preparation=preparation, generator=generator, clock=clock)
        self._generator = generator
        self._writer = writer
        self._watch = watch
        self._on_completed = on_completed
        self._tasks = LiveTasks(grace_s=drain_grace_s)
        self.running: dict[str, Running] = {}
        """Turns that run here, by their generation."""
        self._requests: dict[tuple[str, str], _RunningRequest] = {}
        """Requests that run, by user and request_id: who sends one again gets what the first one gets."""
        self._queue = TurnQueue()

    async def begin(self, identity: Identity, request: TurnRequest) -> Begun:
        """Begin a turn. When it runs here, its log already holds `started`.

        A request_id that was used before leads to that turn.

        Raises:
            DomainError: When the turn is refused. Nothing of it is stored then, except for a message that moderation
                refused, which is stored as blocked.
        """
        if not request.queue:
            return await self._begin(identity, request)
        with self._queue.place(request.conversation_id) as first:
            if not first.is_set() and (begun := await self._earlier(identity, request)):
                # What was sent before need not wait for those that came after it.
                return begun
            await first.wait()
            return await self._begin_when_free(identity, request)

    async def events(self, begun: Begun) -> AsyncIterator[Sequence[Entry]]:
        """The events of a turn that has begun, all that is there at a time.

        Raises:
            DomainError: LOG_UNAVAILABLE, also for a turn that was joined and then refused where it was prepared.
        """
        try:
            async for entries in self._watch.events(begun.generation_id, log=begun.log, ended=begun.answer is not None):
                yield entries
        except DomainError as error:
            if begun.log is not None or error.reason is not Reason.GENERATION_NOT_FOUND:
                raise
            raise DomainError(
                Reason.LOG_UNAVAILABLE,
                "The message was refused or taken back on another server; send it again with the same request_id.",
                metadata={"generation_id": begun.generation_id},
            ) from error

    async def _begin_when_free(self, identity: Identity, request: TurnRequest) -> Begun:
        before, delay_s = "", BUSY_RETRY_S
        while True:
            try:
                return await self._begin(identity, request)
            except DomainError as error:
                if error.reason is not Reason.CONVERSATION_BUSY:
                    raise
                generation_id = error.metadata["generation_id"]
            if generation_id == before:
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, MAX_BUSY_RETRY_S)
            else:
                before, delay_s = generation_id, BUSY_RETRY_S
            await self._watch.end(generation_id)

    async def _earlier(self, identity: Identity, request: TurnRequest) -> Begun | None:
        """The turn that an earlier use of the request_id led to, here or elsewhere."""
        if (joined := await self._join(identity, request)) is not None or not request.request_id:
            return joined
        known = await self._store.find_request(user_id=identity.user_id, request_id=request.request_id)
        if known is None:
            return None
        if known.request_hash != request.digest():
            raise request_id_reused(request.request_id)
        return _known(known)

    async def _join(self, identity: Identity, request: TurnRequest) -> Begun | None:
        running = self._requests.get((identity.user_id, request.request_id))
        if running is None:
            return None
        if running.digest != request.digest():
            raise request_id_reused(request.request_id)
        return await asyncio.shield(running.ready)

    async def _begin(self, identity: Identity, request: TurnRequest) -> Begun:
        if (joined := await self._join(identity, request)) is not None:
            return joined
        self._tasks.require_open()
        ready: asyncio.Future[Begun] = asyncio.get_running_loop().create_future()
        # A caller that is gone does not read the refusal; that is no error of ours.
        ready.add_done_callback(lambda future: future.cancelled() or future.exception())
        if request.request_id:
            self._requests[identity.user_id, request.request_id] = _RunningRequest(request.digest(), ready)
        self._tasks.start(self._run(identity, request, ready))
        # Shielded, for the turn goes on when the caller does not.
        return await asyncio.shield(ready)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run what belongs to turns until it ends, or until this process does."""
        self._tasks.start(work)

    async def take_over(
        self, turn: OpenTurn, sampling: Sampling, entries: Sequence[Entry], *, lost: DomainError | None
    ) -> None:
        """Run a turn that another server has begun, from where its log ends.

        Args:
            turn: The turn, at this server's epoch.
            sampling: How to sample.
            entries: Its log.
            lost: Why it cannot go on; None when it can.
        """
        identity = Identity(turn.user_id, turn.tier, turn.residency, turn.tenant_id)
        enter_scope(CallScope(identity=identity, request_id=turn.generation_id))
        log = self._open_log(turn, entries)
        if log.ended and not log.closed:
            # All of it is there; nothing has to go on.
            lost = None
        if lost is not None and not log.closed:
            # Who saw more than the log has must still get the end.
            log.skip(LOST_POSITIONS)
        ready: asyncio.Future[Begun] = asyncio.get_running_loop().create_future()
        ready.add_done_callback(lambda future: future.cancelled() or future.exception())
        if lost is not None:
            # It may have begun, whatever its log says: it fails, and is not undone.
            ready.set_exception(lost)
        await self._answer(turn, sampling, log, ready, lost=lost)

    def _open_log(self, turn: OpenTurn, entries: Sequence[Entry] = ()) -> GenerationLog:
        return self._writer.open(
            turn.generation_id,
            on_move=lambda: self._abandon(turn.generation_id),
            epoch=turn.epoch,
            entries=entries,
        )

    def lose(self, generation_id: str) -> None:
        """Another server owns the generation: nothing more is done for it here."""
        log = self._writer.find(generation_id)
        if log is not None:
            self._writer.give_up(log)

    def _abandon(self, generation_id: str) -> None:
        running = self.running.get(generation_id)
        if running is not None:
            running.task.cancel()

    async def drain(self) -> None:
        """Let the running turns end; those that take too long are left to another server."""
        await self._tasks.drain(self._tasks.cancel)

    async def _run(self, identity: Identity, request: TurnRequest, ready: asyncio.Future[Begun]) -> None:
        try:
            opened = await self._store.begin_turn(
                user_id=identity.user_id,
                tier=identity.tier,
                conversation_id=request.conversation_id,
                content=request.content,
                model=request.model,
                request_id=request.request_id,
                request_hash=request.digest(),
                target=request.target,
                sampling=request.sampling,
                residency=identity.residency,
                tenant_id=identity.tenant_id,
            )
            if isinstance(opened, KnownRequest):
                ready.set_result(_known(opened))
            else:
                await self._answer(opened, request.sampling, self._open_log(opened), ready)
        except DomainError as error:
            # Only before it began; afterwards its log says how it ended.
            ready.set_exception(error)
        except Exception:  # noqa: BLE001 - whatever it was, the caller must hear of it
            _log.exception("turn was not begun")
            if not ready.done():
                ready.set_exception(internal_error(current_scope().request_id))
        finally:
            self._requests.pop((identity.user_id, request.request_id), None)
            if not ready.done():
                ready.set_exception(self._left())

    def _left(self) -> DomainError:
        """Why a turn that has not begun is not this server's any more."""
        try:
            self._tasks.require_open()
        except DomainError as error:
            return error
        return DomainError(
            Reason.LOG_UNAVAILABLE, "Another server answers it now; send it again with the same request_id."
        )

    async def _answer(
        self,
        turn: OpenTurn,
        sampling: Sampling,
        log: GenerationLog,
        ready: asyncio.Future[Begun],
        *,
        lost: DomainError | None = None,
    ) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - it runs as one
        running = self.running[turn.generation_id] = Running(turn.epoch, task, log)
        result: Result | None = None

        try:
            if lost is not None:
                raise lost
            result = await self._generation.run(
                turn, sampling, log, on_begun=lambda: ready.set_result(Begun(turn.generation_id, log))
            )
            running.settled = True
            message = await self._ending.complete(turn, result, log)
            if message is not None and not message.error:
                self._on_completed(turn, message)
        except DomainError as error:
            running.settled = True
            await self._fail(turn, log, ready, error, result)
        except GenerationMovedError:
            _moved(turn)
        except Exception:  # noqa: BLE001 - whatever it was, the log must get its terminal event
            _log.exception("turn failed", extra={"generation_id": turn.generation_id})
            running.settled = True
            await self._fail(turn, log, ready, internal_error(turn.generation_id), result)
        finally:
            if self.running.get(turn.generation_id) is running:
                del self.running[turn.generation_id]
            self._generator.forget(turn.generation_id)
            if not log.closed:
                # Cancelled, refused before it began, or not ours any more.
                self._writer.give_up(log)

    async def _fail(
        self,
        turn: OpenTurn,
        log: GenerationLog,
        ready: asyncio.Future[Begun],
        error: DomainError,
        result: Result | None,
    ) -> None:
        """End a turn that did not come to its end: refused when it was not begun, failed when it was."""
        if log.entries or ready.done():
            if not ready.done():
                ready.set_exception(error)
            try:
                await self._ending.fail(turn, log, error, result)
            except GenerationMovedError:
                _moved(turn)
            return
        try:
            await self._ending.refuse(turn, error, on_delay=lambda: ready.set_exception(error))
        except GenerationMovedError:
            _moved(turn)
        finally:
            if not ready.done():
                ready.set_exception(error)


def _moved(turn: OpenTurn) -> None:
    _log.warning("generation was taken over", extra={"generation_id": turn.generation_id, "epoch": turn.epoch})


def _known(known: KnownRequest) -> Begun:
    """The turn that a request_id led to before.

    Raises:
        DomainError: The refusal when it was refused.
    """
    answer = known.answer
    if not known.open and answer.error is not None and not answer.model:
        # It was refused before it began.
        raise domain_error(answer.error)
    return Begun(known.generation_id, None, None if known.open else answer)
