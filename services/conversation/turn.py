"""A turn of a conversation, from the user's message to the stored answer.

Once it has begun, a turn belongs to this process and not to the call that asked for it: when the client goes away or
its deadline passes, it runs on and is stored.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from services.conversation.convert import domain_error, error_summary
from services.conversation.generation_log import Completed, Delta, Failed, GenerationLog, Started
from services.conversation.generator import Generator
from services.conversation.model import (
    ChatMessage,
    FinishReason,
    Message,
    MessageStatus,
    OpenTurn,
    Outcome,
    Route,
    Sampling,
    TokenUsage,
)
from services.conversation.preparation import Preparation, Prepared, Question
from services.conversation.store import conversation_not_found, request_id_reused
from services.conversation.turn_store import LEASE_S, KnownRequest, TurnStore
from services.conversation.usage_outbox import UsageOutbox
from services.runtime.clock import Clock
from services.runtime.errors import DomainError, Reason, internal_error
from services.runtime.identity import Identity, current_scope, enter_scope
from services.runtime.live_tasks import LiveTasks

_log = logging.getLogger(__name__)

STORE_PATIENCE_S = 60.0
"""How long an answer waits for the database to come back before it is given up."""


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """What the user asks."""

    conversation_id: str
    content: str
    model: str
    sampling: Sampling
    request_id: str

    def digest(self) -> str:
        """A hash of everything but the request_id."""
        value = [self.conversation_id, self.content, self.model, repr(self.sampling)]
        return hashlib.sha256(json.dumps(value).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class _RunningRequest:
    digest: str
    ready: asyncio.Future[GenerationLog]
    """The log once it holds `started`; the refusal when it never will."""


class TurnRunner:
    """Begins turns and keeps those that run."""

    def __init__(
        self,
        *,
        store: TurnStore,
        preparation: Preparation,
        generator: Generator,
        outbox: UsageOutbox,
        clock: Clock,
        drain_grace_s: float,
    ) -> None:
        self._store = store
        self._preparation = preparation
        self._generator = generator
        self._outbox = outbox
        self._clock = clock
        self._tasks = LiveTasks(grace_s=drain_grace_s)
        self._running: set[str] = set()
        """Generations of the turns that run."""
        self._requests: dict[tuple[str, str], _RunningRequest] = {}
        """Requests that run, by user and request_id: who sends one again gets what the first one gets."""

    async def begin(self, identity: Identity, request: TurnRequest) -> GenerationLog:
        """Begin a turn and return its log, which already holds `started`.

        A request_id that was used before leads to the log of that turn.

        Raises:
            DomainError: When the turn is refused. Nothing of it is stored then, except for a message that moderation
                refused, which is stored as blocked.
        """
        key = (identity.user_id, request.request_id)
        running = self._requests.get(key)
        if running is not None:
            if running.digest != request.digest():
                raise request_id_reused(request.request_id)
            return await asyncio.shield(running.ready)
        self._tasks.require_open()
        ready: asyncio.Future[GenerationLog] = asyncio.get_running_loop().create_future()
        # A caller that is gone does not read the refusal; that is no error of ours.
        ready.add_done_callback(lambda future: future.exception())
        if request.request_id:
            self._requests[key] = _RunningRequest(request.digest(), ready)
        self._tasks.start(self._run(identity, request, ready))
        # Shielded, for the turn goes on when the caller does not.
        return await asyncio.shield(ready)

    async def keep_leases(self) -> None:
        """Say for ever that the running turns are alive, and end those whose owner is not."""
        while True:
            await asyncio.sleep(LEASE_S / 3)
            try:
                if self._running:
                    await self._store.extend_leases(list(self._running))
                orphans = await self._store.fail_orphans(own=False)
            except DomainError as error:
                _log.warning("leases are not extended", extra={"reason": error.reason.value})
                continue
            if orphans:
                _log.warning("ended orphaned generations", extra={"count": orphans})

    async def drain(self) -> None:
        """Let the running turns end; those that take too long end as stopped, with what was shown."""
        await self._tasks.drain(self._generator.stop_all)

    async def _run(self, identity: Identity, request: TurnRequest, ready: asyncio.Future[GenerationLog]) -> None:
        try:
            opened = await self._store.begin_turn(
                user_id=identity.user_id,
                tier=identity.tier,
                conversation_id=request.conversation_id,
                content=request.content,
                model=request.model,
                request_id=request.request_id,
                request_hash=request.digest(),
            )
            if isinstance(opened, KnownRequest):
                ready.set_result(_ended_log(opened))
            else:
                await self._answer(opened, request, ready)
        except DomainError as error:
            # Only before it began; afterwards its log says how it ended.
            ready.set_exception(error)
        except Exception:  # noqa: BLE001 - whatever it was, the caller must hear of it
            _log.exception("turn was not begun")
            if not ready.done():
                ready.set_exception(internal_error(current_scope().request_id))
        finally:
            self._requests.pop((identity.user_id, request.request_id), None)

    async def _answer(self, turn: OpenTurn, request: TurnRequest, ready: asyncio.Future[GenerationLog]) -> None:
        log = GenerationLog(turn.generation_id)
        self._running.add(log.generation_id)
        question = Question(
            generation_id=turn.generation_id,
            conversation_id=turn.conversation_id,
            model=turn.model,
            system_prompt=turn.system_prompt,
            user_message=request.content,
            sampling=request.sampling,
            unchecked=(turn.system_prompt,),
        )
        try:
            prepared = await self._preparation.prepare(question, history=self._history(turn))
            if prepared.redacted is not None:
                await self._store.change_question(turn, content=prepared.redacted)
            log.append(Started(turn.conversation_id, turn.user_message.id, turn.answer_id))
            ready.set_result(log)
            # From here on the turn goes on whether or not somebody waits.
            enter_scope(replace(current_scope(), deadline=None))
            await self._generate(turn, question, prepared, log)
        except DomainError as error:
            await self._fail(turn, log, ready, error)
        except Exception:  # noqa: BLE001 - whatever it was, the log must get its terminal event
            _log.exception("turn failed", extra={"generation_id": turn.generation_id})
            await self._fail(turn, log, ready, internal_error(turn.generation_id))
        finally:
            self._running.discard(turn.generation_id)

    async def _generate(self, turn: OpenTurn, question: Question, prepared: Prepared, log: GenerationLog) -> None:
        outcome, route = await self._generator.generate(question, prepared, log)
        message = await self._store_patiently(turn, outcome, route)
        self._outbox.wake()
        # What is stored counts: the conversation may be gone, or another process may have ended the turn.
        error = message.error if message else error_summary(conversation_not_found(turn.conversation_id))
        log.append(Failed(error, message) if error else Completed(message))

    async def _fail(
        self, turn: OpenTurn, log: GenerationLog, ready: asyncio.Future[GenerationLog], error: DomainError
    ) -> None:
        """End a turn that did not come to its end: refused when it was not begun, failed when it was."""
        if ready.done():
            log.append(Failed(error_summary(error), None))
            return
        try:
            await self._refuse(turn, error)
        except DomainError as why:
            # Its lease runs out, and it is then ended as failed.
            _log.warning("a refused turn stays", extra={"reason": why.reason.value})
        finally:
            ready.set_exception(error)

    async def _refuse(self, turn: OpenTurn, error: DomainError) -> None:
        """Undo a turn that was not begun; keep a message that was refused, marked as such."""
        if error.reason is Reason.CONTENT_BLOCKED:
            await self._store.change_question(turn, status=MessageStatus.BLOCKED)
            outcome = Outcome(
                MessageStatus.BLOCKED, FinishReason.CONTENT_FILTER, "", TokenUsage(), error_summary(error)
            )
            await self._store.finish_turn(turn, outcome, model="", route=None)
            self._outbox.wake()
            return
        await self._store.discard_turn(turn)
        await self._outbox.release(
            generation_id=turn.generation_id, user_id=turn.user_id, tier=turn.tier, refusal=error.reason
        )

    async def _store_patiently(self, turn: OpenTurn, outcome: Outcome, route: Route) -> Message | None:
        """Store the answer, waiting for the database when it is away."""
        give_up = self._clock.monotonic() + STORE_PATIENCE_S
        receipt = replace(route.receipt, requested_model=turn.model)
        delay_s = 0.1
        while True:
            try:
                return await self._store.finish_turn(turn, outcome, model=route.model.name, route=receipt)
            except DomainError:
                if self._clock.monotonic() + delay_s > give_up:
                    raise
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, 2.0)

    def _history(self, turn: OpenTurn) -> Callable[[int], Awaitable[tuple[Sequence[tuple[str, ChatMessage]], bool]]]:
        position = turn.user_message.sequence

        async def next_page(limit: int) -> tuple[Sequence[tuple[str, ChatMessage]], bool]:
            nonlocal position
            if position <= 1:
                return [], True
            rows = await self._store.history(
                conversation_id=turn.conversation_id, before_sequence=position, limit=limit
            )
            if rows:
                position = rows[-1][0]
            return [(id_, message) for _, id_, message in rows], len(rows) < limit

        return next_page


def _ended_log(known: KnownRequest) -> GenerationLog:
    """The log of a turn that a request_id led to before, and that does not run here.

    Raises:
        DomainError: CONVERSATION_BUSY when another server runs it; the refusal when it was refused.
    """
    if known.open:
        raise DomainError(
            Reason.CONVERSATION_BUSY,
            "This message is being answered by another server; read the conversation again shortly.",
            metadata={"conversation_id": known.answer.conversation_id, "generation_id": known.generation_id},
        )
    if known.answer.error is not None and not known.answer.model:
        # It was refused before it began.
        raise domain_error(known.answer.error)
    return replay(known.answer)


def replay(answer: Message) -> GenerationLog:
    """The log of a generation that has ended, made again from what is stored."""
    log = GenerationLog(answer.generation_id)
    log.append(Started(answer.conversation_id, answer.parent_id, answer.id))
    if answer.content:
        log.append(Delta(answer.content))
    log.append(Failed(answer.error, answer) if answer.error else Completed(answer))
    return log
