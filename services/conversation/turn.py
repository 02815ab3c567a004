"""A turn of a conversation, from the user's message to the stored answer.

A turn belongs to this process and not to the call that began it: when the client goes away it runs on and is stored.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from services.conversation.convert import error_summary
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
    UsageRecord,
)
from services.conversation.preparation import Preparation, Prepared, Question
from services.conversation.turn_store import LEASE_S, KnownRequest, TurnStore
from services.conversation.usage_outbox import UsageOutbox
from services.runtime.clock import Clock
from services.runtime.errors import DomainError, Reason, internal_error
from services.runtime.identity import Identity, current_scope, enter_scope

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
    ) -> None:
        self._store = store
        self._preparation = preparation
        self._generator = generator
        self._outbox = outbox
        self._clock = clock
        self._logs: dict[str, GenerationLog] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def begin(self, identity: Identity, request: TurnRequest) -> GenerationLog:
        """Begin a turn and return its log, which already holds `started`.

        A request_id that was used before leads to the log of that turn.

        Raises:
            DomainError: When the turn is refused. Nothing of it is stored then, except for a message that moderation
                refused, which is stored as blocked.
        """
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
            return self._log_of(opened)
        log = GenerationLog(opened.generation_id)
        self._logs[log.generation_id] = log
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # A caller that is gone does not read the refusal; that is no error of ours.
        ready.add_done_callback(lambda future: future.exception())
        task = asyncio.create_task(self._run(opened, request, log, ready), name=f"turn-{log.generation_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # Shielded, for the turn goes on when the caller does not.
        await asyncio.shield(ready)
        return log

    async def keep_leases(self) -> None:
        """Say for ever that the running turns are alive, and end those whose owner is not."""
        while True:
            await asyncio.sleep(LEASE_S / 3)
            try:
                if self._logs:
                    await self._store.extend_leases(list(self._logs))
                orphans = await self._store.fail_orphans(own=False)
            except DomainError as error:
                _log.warning("leases are not extended", extra={"reason": error.reason.value})
                continue
            if orphans:
                _log.warning("ended orphaned generations", extra={"count": orphans})

    async def drain(self) -> None:
        """Wait until the running turns have ended."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._outbox.flush()

    def _log_of(self, known: KnownRequest) -> GenerationLog:
        running = self._logs.get(known.generation_id)
        if running is not None:
            return running
        if known.open:
            raise DomainError(
                Reason.CONVERSATION_BUSY,
                "This message is being answered by another server; read the conversation again shortly.",
                metadata={
                    "conversation_id": known.answer.conversation_id,
                    "generation_id": known.generation_id,
                },
            )
        return replay(known.answer)

    async def _run(self, turn: OpenTurn, request: TurnRequest, log: GenerationLog, ready: asyncio.Future[None]) -> None:
        question = Question(
            generation_id=turn.generation_id,
            conversation_id=turn.conversation_id,
            model=turn.model,
            system_prompt=turn.system_prompt,
            user_message=request.content,
            sampling=request.sampling,
        )
        try:
            try:
                prepared = await self._preparation.prepare(question, history=self._history(turn))
            except DomainError as error:
                await self._refuse(turn, error)
                raise
            log.append(Started(turn.conversation_id, turn.user_message.id, turn.answer_id))
            ready.set_result(None)
            # From here on the turn goes on whether or not somebody waits.
            enter_scope(replace(current_scope(), deadline=None))
            await self._generate(turn, question, prepared, log)
        except DomainError as error:
            self._fail(log, ready, error)
        except Exception:  # noqa: BLE001 - whatever it was, the log must get its terminal event
            _log.exception("turn failed", extra={"generation_id": turn.generation_id})
            self._fail(log, ready, internal_error(turn.generation_id))
        finally:
            self._logs.pop(turn.generation_id, None)

    async def _generate(self, turn: OpenTurn, question: Question, prepared: Prepared, log: GenerationLog) -> None:
        outcome, route = await self._generator.generate(question, prepared, log)
        message = await self._store_patiently(turn, outcome, prepared, route)
        self._outbox.wake()
        if outcome.error is None:
            log.append(Completed(message))
        else:
            log.append(Failed(outcome.error, message))

    async def _refuse(self, turn: OpenTurn, error: DomainError) -> None:
        """Undo a turn that was not begun; keep a message that was refused, marked as such."""
        if error.reason is Reason.CONTENT_BLOCKED:
            outcome = Outcome(
                MessageStatus.BLOCKED, FinishReason.CONTENT_FILTER, "", TokenUsage(), error_summary(error)
            )
            await self._store.finish_turn(turn, outcome, model="", route=None, user_status=MessageStatus.BLOCKED)
            self._outbox.wake()
            return
        await self._store.discard_turn(turn)
        await self._outbox.add(
            UsageRecord(
                generation_id=turn.generation_id,
                user_id=turn.user_id,
                tier=turn.tier,
                conversation_id=turn.conversation_id,
                model="",
                usage=TokenUsage(),
                finish_reason=FinishReason.ERROR,
                ended_at=self._clock.now(),
            )
        )

    async def _store_patiently(
        self, turn: OpenTurn, outcome: Outcome, prepared: Prepared, route: Route
    ) -> Message | None:
        """Store the answer, waiting for the database when it is away."""
        give_up = self._clock.monotonic() + STORE_PATIENCE_S
        delay_s = 0.1
        while True:
            try:
                return await self._store.finish_turn(
                    turn,
                    outcome,
                    model=route.model.name,
                    route=replace(route.receipt, requested_model=turn.model),
                    user_content=prepared.redacted,
                )
            except DomainError:
                if self._clock.monotonic() + delay_s > give_up:
                    raise
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, 2.0)

    def _fail(self, log: GenerationLog, ready: asyncio.Future[None], error: DomainError) -> None:
        if ready.done():
            log.append(Failed(error_summary(error), None))
        else:
            ready.set_exception(error)

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


def replay(answer: Message) -> GenerationLog:
    """The log of a generation that has ended, made again from what is stored."""
    log = GenerationLog(answer.generation_id)
    log.append(Started(answer.conversation_id, answer.parent_id, answer.id))
    if answer.content:
        log.append(Delta(answer.content))
    log.append(Failed(answer.error, answer) if answer.error else Completed(answer))
    return log
