"""What happens before the first token: quota, check of the input, routing and context, side by side.

The slowest of them is what the user waits for, not their sum; whichever refuses cancels the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.conversation.model import ChatMessage, Prompt, Role, Route, Sampling
from services.conversation.peers.context import ContextPeer, History
from services.conversation.peers.moderation import InputVerdict, ModerationPeer
from services.conversation.peers.router import RouterPeer
from services.conversation.peers.usage import UsagePeer
from services.runtime.errors import DomainError

BYTES_PER_TOKEN = 3
"""A low estimate for reservations; the lease is settled by what the engine counted."""
DEFAULT_RESERVED_TOKENS = 512
MAX_RESERVED_TOKENS = 8192
"""The model that answers, and so the longest answer, is not known yet; few answers are longer than this."""
MAX_RESERVED_SHARE = 4
"""At most one in this many tokens of the context is kept free for an answer whose length was not asked for."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, before anything is known about who answers."""

    generation_id: str
    conversation_id: str
    model: str
    system_prompt: str
    user_message: str
    sampling: Sampling
    custom_instructions: str = ""
    """What the user wants every model to know."""
    unchecked: tuple[str, ...] = ()
    """Texts before the user's message that the client sent with it, so that nobody has checked them before."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that is needed to generate."""

    route: Route
    prompt: Prompt
    sampling: Sampling
    redacted: str | None
    """The user's message as it goes to the model and into the store, when moderation redacted it."""


class Preparation:
    """Asks the four services at once."""

    def __init__(
        self, *, usage: UsagePeer, moderation: ModerationPeer, router: RouterPeer, context: ContextPeer
    ) -> None:
        self._usage = usage
        self._moderation = moderation
        self._router = router
        self._context = context

    async def prepare(self, question: Question, *, history: History) -> Prepared:
        """Prepare a generation.

        Raises:
            DomainError: The first refusal: QUOTA_EXCEEDED, CONTENT_BLOCKED, MODEL_NOT_FOUND, MODEL_NOT_ALLOWED,
                NO_REPLICA, CONTEXT_LENGTH_EXCEEDED, or a service that did not answer.
        """
        requested = question.sampling.max_tokens
        estimate = len(question.user_message.encode()) // BYTES_PER_TOKEN
        asked = estimate + min(requested or DEFAULT_RESERVED_TOKENS, MAX_RESERVED_TOKENS)
        try:
            async with asyncio.TaskGroup() as group:
                route = group.create_task(self.route(question, model=question.model))
                prompt = group.create_task(
                    self._context.assemble(
                        system_prompt=question.system_prompt,
                        custom_instructions=question.custom_instructions,
                        user_message=question.user_message,
                        route=lambda: asyncio.shield(route),
                        reserve=lambda chosen: reserved_tokens(requested, chosen),
                        history=history,
                    )
                )
                verdict: asyncio.Task[InputVerdict] = group.create_task(
                    self._moderation.check_input(
                        generation_id=question.generation_id,
                        texts=[*(text for text in question.unchecked if text), question.user_message],
                    )
                )
                granted = group.create_task(self._usage.acquire(generation_id=question.generation_id, tokens=asked))
        except* DomainError as errors:
            raise first_error(errors) from errors
        limits = [requested or route.result().model.max_output_tokens, prompt.result().available_output_tokens]
        if granted.result() < asked:
            # The last tokens of the quota: the answer ends where they do.
            limits.append(max(1, granted.result() - estimate))
        return Prepared(
            route=route.result(),
            prompt=_with_last(prompt.result(), verdict.result().redacted),
            sampling=replace(question.sampling, max_tokens=min(limits)),
            redacted=verdict.result().redacted,
        )

    async def route(self, question: Question, *, model: str, excluded: Sequence[str] = ()) -> Route:
        """Choose a replica of `model`, an alias or a name, that is none of those that have just failed."""
        return await self._router.route(
            generation_id=question.generation_id,
            model=model,
            conversation_id=question.conversation_id,
            excluded=excluded,
        )


def reserved_tokens(requested: int | None, route: Route) -> int:
    """Tokens of the context to keep free for the answer."""
    most = route.model.context_length // MAX_RESERVED_SHARE
    return min(requested or route.model.max_output_tokens, route.model.max_output_tokens, most)


def first_error(group: BaseExceptionGroup[DomainError]) -> DomainError:
    """The first of several errors that came together."""
    error: BaseExceptionGroup[DomainError] | DomainError = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _with_last(prompt: Prompt, redacted: str | None) -> Prompt:
    if redacted is None:
        return prompt
    return replace(prompt, messages=(*prompt.messages[:-1], ChatMessage(Role.USER, redacted)))
