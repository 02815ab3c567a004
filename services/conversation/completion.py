"""A completion: an answer to messages that are given whole and belong to no conversation.

Nothing of its text is stored. Unlike a turn it ends when its client goes away, as clients of this kind of API expect.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b

from services.conversation.chat_model import ChatMessage, Role, Sampling, ToolOptions
from services.conversation.choices import Choice, Completion
from services.conversation.convert import error_summary
from services.conversation.experiment_store import ExperimentStore, Exposure
from services.conversation.generation_log import Completed, Failed
from services.conversation.generator import Generator
from services.conversation.late_model import Revision
from services.conversation.model import Outcome, UsageRecord
from services.conversation.peers.context import History
from services.conversation.preparation import Preparation, Prepared, Question
from services.conversation.route_model import Route, RouteReceipt
from services.conversation.taken_back import taken_back
from services.conversation.usage_outbox import UsageOutbox
from services.runtime.clock import Clock, new_id
from services.runtime.errors import DomainError, Reason, internal_error
from services.runtime.identity import Identity, current_scope, enter_scope
from services.runtime.live_tasks import LiveTasks

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """What is asked: the system prompt, the messages before the last, and the last."""

    model: str
    system_prompt: str
    history: tuple[ChatMessage, ...]
    user_message: str
    sampling: Sampling
    custom_instructions: str = ""
    truncate: bool = False
    """Whether to leave out old messages that do not fit, and not refuse."""
    ends_in_history: bool = False
    """Whether the message to answer is the last of the history; `user_message` is then its text."""
    tools: ToolOptions | None = None
    top_logprobs: int | None = None
    """When set, tokens come with their log-probabilities and so many of the likeliest at their place."""
    answers: int = 1
    """How many answers to generate, each on its own."""
    cache_key: str = ""
    """What the client says that its requests with the same beginning have in common."""
    background: bool = False
    """Whether nobody waits for it."""


class CompletionRunner:
    """Begins completions and keeps those that run."""

    def __init__(
        self,
        *,
        preparation: Preparation,
        generator: Generator,
        outbox: UsageOutbox,
        experiments: ExperimentStore,
        clock: Clock,
        drain_grace_s: float,
    ) -> None:
        self._preparation = preparation
        self._generator = generator
        self._outbox = outbox
        self._experiments = experiments
        self._clock = clock
        self._tasks = LiveTasks(grace_s=drain_grace_s)
        self._running: set[str] = set()
        """Generations that run here."""
        self._revisions: dict[str, Revision] = {}
        """What late verdicts say of those."""

    async def begin(self, identity: Identity, request: CompletionRequest) -> Completion:
        """Begin a completion.

        Raises:
            DomainError: When it is refused; CONTEXT_LENGTH_EXCEEDED when not all of the messages fit, for leaving some
                out is not what was asked.
        """
        self._tasks.require_open()
        question = _question(request)
        try:
            prepared = await self._preparation.prepare(question, history=partial(_pages, request.history))
            if prepared.prompt.truncated and not request.truncate:
                raise _too_long(prepared)
        except BaseException as error:
            # Also when the client went away: the tokens that were reserved are free again.
            self._tasks.start(self._release(identity, question.generation_id, error))
            raise
        completion = Completion(
            [
                Choice(
                    index,
                    question.generation_id if index == 0 else new_id(),
                    prepared.route.receipt,
                    with_logprobs=request.top_logprobs is not None,
                )
                for index in range(request.answers)
            ]
        )
        self._tasks.start(self._run(identity, request, question, prepared, completion))
        return completion

    def stop(self, completion: Completion) -> None:
        """Stop it because nobody listens any more."""
        for choice in completion.choices:
            self.stop_choice(choice)

    def stop_choice(self, choice: Choice) -> None:
        """Stop one of its answers."""
        if not choice.log.closed:
            self._generator.stop(choice.log.generation_id)

    def take_back(self, generation_id: str, revision: Revision) -> None:
        """End an answer that runs here as a late verdict says. Of those that have ended nothing is known any more."""
        if generation_id in self._running:
            self._revisions[generation_id] = revision
            self._generator.stop(generation_id)

    async def drain(self) -> None:
        """Let the running completions end; those that take too long end as stopped."""
        await self._tasks.drain(self._stop_all)

    def _stop_all(self) -> None:
        for generation_id in self._running:
            self._generator.stop(generation_id)

    async def _run(
        self,
        identity: Identity,
        request: CompletionRequest,
        question: Question,
        prepared: Prepared,
        completion: Completion,
    ) -> None:
        started = self._clock.monotonic()
        # Its end is its client's going, not a deadline.
        enter_scope(replace(current_scope(), deadline=None))
        routes = await asyncio.gather(
            *(self._generate(request, question, prepared, choice) for choice in completion.choices)
        )
        ended = next(((choice, route) for choice, route in zip(completion.choices, routes, strict=True) if route), None)
        if ended is None:
            await self._release(identity, completion.id, None)
            return
        choice, route = ended
        assert choice.outcome is not None  # noqa: S101 - it has a route only when it has ended
        await self._record(
            UsageRecord(
                generation_id=completion.id,
                user_id=identity.user_id,
                tier=identity.tier,
                conversation_id="",
                model=route.model.name,
                usage=completion.usage,
                finish_reason=choice.outcome.finish_reason,
                ended_at=self._clock.now(),
            )
        )
        await self._expose(identity, completion.id, choice.outcome, completion.route, started)

    async def _generate(
        self, request: CompletionRequest, question: Question, prepared: Prepared, choice: Choice
    ) -> Route | None:
        """Generate one of the answers. Returns where it ran; None when something went wrong that nobody foresaw."""
        log = choice.log
        self._running.add(log.generation_id)
        try:
            own = replace(question, generation_id=log.generation_id)
            outcome, route = await self._generator.generate(
                own,
                await self._for_choice(own, prepared, choice.index),
                log,
                history=partial(_pages, request.history),
                extras=choice.extras,
            )
        except Exception:  # noqa: BLE001 - whatever it was, the client must get a terminal event
            _log.exception("completion failed", extra={"generation_id": log.generation_id})
            log.append(Failed(error_summary(internal_error(log.generation_id)), None))
            return None
        finally:
            self._running.discard(log.generation_id)
            revision = self._revisions.pop(log.generation_id, None)
        if revision is not None:
            outcome = taken_back(outcome, log, revision)
        choice.end(outcome, route)
        log.append(Failed(outcome.error, None) if outcome.error else Completed(None))
        return route

    async def _for_choice(self, question: Question, prepared: Prepared, index: int) -> Prepared:
        """The same for another answer: a place of its own, the next seed, so that it is another one, and no shadow."""
        if index == 0:
            return prepared
        sampling, first = prepared.sampling, prepared.route
        if sampling.seed is not None:
            sampling = replace(sampling, seed=_next_seed(sampling.seed, index))
        route = replace(first, shadows=())
        with suppress(DomainError):
            # Its own lease, for the Router counts what it sends. The prompt was counted for this model.
            found = await self._preparation.route(question, model=first.model.name, continues=True)
            if found.model.name == first.model.name:
                route = replace(route, address=found.address, replica_id=found.replica_id, receipt=found.receipt)
        return replace(prepared, sampling=sampling, route=route)

    async def _expose(
        self, identity: Identity, generation_id: str, outcome: Outcome, route: RouteReceipt, started: float
    ) -> None:
        """Record the arms of experiments that it was answered in; an answer is not lost for want of that."""
        if not route.experiments:
            return
        exposure = Exposure(
            generation_id=generation_id,
            user_id=identity.user_id,
            arms=tuple((arm.experiment, arm.arm) for arm in route.experiments),
            status=outcome.status.value,
            first_token_ms=route.first_token_ms,
            duration_ms=(self._clock.monotonic() - started) * 1000,
            completion_tokens=outcome.usage.completion_tokens,
            cost_nano_usd=route.cost_nano_usd,
        )
        try:
            await self._experiments.record(exposure)
        except DomainError as error:
            _log.error("exposure is lost", extra={"generation_id": generation_id, "reason": error.reason.value})

    async def _release(self, identity: Identity, generation_id: str, error: BaseException | None) -> None:
        await self._outbox.release(
            generation_id=generation_id,
            user_id=identity.user_id,
            tier=identity.tier,
            refusal=error.reason if isinstance(error, DomainError) else None,
        )

    async def _record(self, record: UsageRecord) -> None:
        try:
            await self._outbox.add(record)
        except DomainError as error:
            _log.error("usage is lost", extra={"generation_id": record.generation_id, "reason": error.reason.value})


_OWN = (Role.USER, Role.SYSTEM)
"""Who speaks for the user; what the others say may be anybody's."""


def _question(request: CompletionRequest) -> Question:
    history = request.history
    before = history[:-1] if request.ends_in_history else history
    form = request.sampling.response_format
    return Question(
        generation_id=new_id(),
        conversation_id="",
        model=request.model,
        system_prompt=request.system_prompt,
        user_message=request.user_message,
        sampling=request.sampling,
        custom_instructions=request.custom_instructions,
        unchecked=(
            request.system_prompt,
            request.custom_instructions,
            request.tools.text if request.tools else "",
            form.text if form else "",
            *(_all_text(message) for message in before if message.role in _OWN),
        ),
        earlier=tuple(message.content for message in before if message.role is Role.USER and message.content),
        untrusted=tuple(_all_text(message) for message in before if message.role not in _OWN),
        tools=request.tools,
        top_logprobs=request.top_logprobs,
        affinity_keys=_affinity_keys(request),
        background=request.background,
        ends_in_history=request.ends_in_history,
        judged=next((message.content for message in reversed(history) if message.role is Role.USER), "")
        if request.ends_in_history
        else request.user_message,
        answers=request.answers,
    )


def _all_text(message: ChatMessage) -> str:
    return "\n".join((message.content, *(f"{call.name}\n{call.arguments}" for call in message.tool_calls)))


def _affinity_keys(request: CompletionRequest) -> tuple[str, ...]:
    """Who sends a whole chat each time sends the same beginning each time, which is cached where it was computed."""
    first = request.history[0].content if request.history else request.user_message
    begins = (request.system_prompt, request.custom_instructions, first)
    keys = [f"begins-{_hash(*begins)}"]
    if request.cache_key:
        keys.insert(0, f"client-{_hash(request.cache_key, request.system_prompt)}")
    return tuple(keys)


def _hash(*texts: str) -> str:
    return blake2b("\0".join(texts).encode(), digest_size=16).hexdigest()


def _next_seed(seed: int, index: int) -> int:
    return (seed + index + 2**63) % 2**64 - 2**63


def _pages(history: Sequence[ChatMessage]) -> History:
    position = len(history)

    async def next_page(limit: int) -> tuple[Sequence[tuple[str, ChatMessage]], bool]:
        nonlocal position
        start = max(0, position - limit)
        page = [(str(index), history[index]) for index in range(position - 1, start - 1, -1)]
        position = start
        return page, start == 0

    return next_page


def _too_long(prepared: Prepared) -> DomainError:
    model = prepared.route.model
    return DomainError(
        Reason.CONTEXT_LENGTH_EXCEEDED,
        f"The messages do not fit into the model's context of {model.context_length} tokens; shorten them.",
        metadata={"model": model.name, "context_length": str(model.context_length)},
    )
