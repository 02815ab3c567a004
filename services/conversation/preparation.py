"""What happens before the first token: quota, check of the input, routing and context, side by side.

The slowest of them is what the user waits for, not their sum; whichever refuses cancels the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from services.conversation.answer_end import REFUSED
from services.conversation.chat_model import ChatMessage, Role, Sampling, ToolOptions
from services.conversation.engine_model import Prompt
from services.conversation.moderation_model import InputVerdict, let_pass
from services.conversation.peers.context import FIRST_PAGE, ContextPeer, History
from services.conversation.peers.moderation import ModerationPeer
from services.conversation.peers.router import RouterPeer
from services.conversation.peers.usage import UsagePeer
from services.conversation.route_model import Capability, Route, RouteQuery
from services.conversation.shared_history import SharedHistory
from services.runtime.errors import DomainError, Reason, first_error

BYTES_PER_TOKEN = 3
"""A low estimate for reservations; the lease is settled by what the engine counted."""
DEFAULT_RESERVED_TOKENS = 512
MAX_RESERVED_TOKENS = 8192
"""The model that answers, and so the longest answer, is not known yet; few answers are longer than this."""
REFUSALS = frozenset((Reason.OVERLOADED, Reason.DRAINING))
"""A replica that says so works: the Router is not told that it has failed, or it would leave a busy one alone."""
MAX_JUDGED_CHARACTERS = 4000
"""Of the end of what the user says, from which the Router judges how hard it is."""
MAX_EARLIER = 6
"""Messages of the user before the new one that are checked together with it."""
NOTE_TOKENS = 16
"""What a model's template writes around a note."""
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
    earlier: tuple[str, ...] = ()
    """The user's messages of `unchecked` that stand before the new one, the oldest first."""
    cleared: bool = False
    """Whether a person has let the user's message pass, whatever the policy says of it."""
    untrusted: tuple[str, ...] = ()
    """What goes to the model and the user did not write, such as results of tools."""
    tools: ToolOptions | None = None
    top_logprobs: int | None = None
    affinity_keys: tuple[str, ...] = ()
    """What it shares the beginning of its prompt with, nearest first."""
    last_replica_id: str = ""
    """The replica that has the beginning of its prompt, when that is known; empty when it is not."""
    background: bool = False
    """Whether nobody waits for the answer."""
    continues: bool = False
    """Whether `model` was decided before, for an answer that goes on."""
    ends_in_history: bool = False
    """Whether the message to answer is the last of the history, as a tool's result is; `user_message` is its text."""
    judged: str = ""
    """What the user says, from which the Router judges how hard it is; empty when it is the message."""
    answers: int = 1
    """How many answers to it are generated side by side."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the model must be able to do."""
        sampling = self.sampling
        needed = {
            Capability.TOOLS: self.tools is not None,
            Capability.JSON: sampling.response_format is not None,
            Capability.LOGPROBS: self.top_logprobs is not None,
            Capability.LOGIT_BIAS: bool(sampling.logit_bias),
            Capability.PENALTIES: bool(sampling.presence_penalty or sampling.frequency_penalty),
        }
        return frozenset(capability for capability, is_needed in needed.items() if is_needed)


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that is needed to generate."""

    route: Route
    prompt: Prompt
    sampling: Sampling
    verdict: InputVerdict
    """What moderation says of the question."""
    quota: int | None = None
    """Greatest number of tokens of the answer that the user's quota still has room for; None when it has plenty."""


class Preparation:
    """Asks the four services at once."""

    def __init__(
        self, *, usage: UsagePeer, moderation: ModerationPeer, router: RouterPeer, context: ContextPeer
    ) -> None:
        self._usage = usage
        self._moderation = moderation
        self._router = router
        self._context = context

    async def prepare(self, question: Question, *, history: Callable[[], History]) -> Prepared:
        """Prepare a generation.

        Args:
            question: What is asked.
            history: Begins to read what was said before, from the newest; another reader for each call.

        Raises:
            DomainError: The first refusal: QUOTA_EXCEEDED, CONTENT_BLOCKED, CONTENT_HELD, MODEL_NOT_FOUND,
                MODEL_NOT_ALLOWED, NO_REPLICA, CONTEXT_LENGTH_EXCEEDED, or a service that did not answer.
        """
        pages = SharedHistory(history())
        requested = question.sampling.max_tokens
        estimate = len(question.user_message.encode()) // BYTES_PER_TOKEN
        asked = estimate + question.answers * min(requested or DEFAULT_RESERVED_TOKENS, MAX_RESERVED_TOKENS)
        try:
            async with asyncio.TaskGroup() as group:
                route = group.create_task(self.route(question, model=question.model))
                prompt = group.create_task(
                    self._assemble(question, route=lambda: asyncio.shield(route), history=pages.reader())
                )
                verdict = group.create_task(self._check(question, pages))
                granted = group.create_task(self._usage.acquire(generation_id=question.generation_id, tokens=asked))
        except* DomainError as errors:
            raise first_error(errors) from errors
        # The last tokens of the quota: the answer ends where they do.
        left = max(1, (granted.result() - estimate) // question.answers)
        quota = left if granted.result() < asked else None
        return _prepared(question, route.result(), prompt.result(), verdict=verdict.result(), quota=quota)

    async def _check(self, question: Question, pages: SharedHistory) -> InputVerdict:
        """Have the question checked, together with what the user said before it."""
        earlier: Sequence[str] = question.earlier
        if question.conversation_id:
            # The page that Context begins with, read once for both.
            messages, _ = await pages.reader()(FIRST_PAGE)
            earlier = [message.content for _, message in reversed(messages) if message.role is Role.USER]
        try:
            verdict = await self._moderation.check_input(
                generation_id=question.generation_id,
                conversation_id=question.conversation_id,
                texts=[*(text for text in question.unchecked if text), question.user_message],
                earlier=earlier[-MAX_EARLIER:],
                untrusted=question.untrusted,
                # What nobody waits for, such as a title, is asked by the mesh, in words of answers too: none of it is
                # what the user would have to answer for.
                last_is_untrusted=question.ends_in_history or question.background,
            )
        except DomainError as error:
            if not question.cleared or error.reason not in REFUSED:
                raise
            return let_pass(error.metadata.get("policy_version", ""))
        return replace(verdict, redacted=None, note="") if question.cleared else verdict

    async def assemble(self, question: Question, route: Route, earlier: Prepared, *, history: History) -> Prepared:
        """Prepare what was prepared for one model for another one.

        Raises:
            DomainError: CONTEXT_LENGTH_EXCEEDED, or a service that did not answer.
        """

        async def chosen() -> Route:
            return route

        prompt = await self._assemble(question, route=chosen, history=history)
        return _prepared(question, route, prompt, verdict=earlier.verdict, quota=earlier.quota)

    async def _assemble(self, question: Question, *, route: Callable[[], Awaitable[Route]], history: History) -> Prompt:
        return await self._context.assemble(
            system_prompt=question.system_prompt,
            custom_instructions=question.custom_instructions,
            user_message="" if question.ends_in_history else question.user_message,
            beside_messages=question.tools.text if question.tools else "",
            route=route,
            reserve=lambda chosen: reserved_tokens(question.sampling.max_tokens, chosen),
            history=history,
        )

    async def route(
        self,
        question: Question,
        *,
        model: str,
        excluded: Sequence[str] = (),
        failed: str = "",
        escalated_from: str = "",
        continues: bool = False,
    ) -> Route:
        """Choose a replica of `model`, an alias or a name.

        Args:
            question: What is asked.
            model: Who shall answer.
            excluded: Replicas that have just failed and must not be chosen.
            failed: The one of them that has failed since this was asked last.
            escalated_from: The model whose answer was too weak.
            continues: Whether the model is one that was decided before.
        """
        return await self._router.route(
            RouteQuery(
                generation_id=question.generation_id,
                model=model,
                conversation_id=question.conversation_id,
                affinity_keys=question.affinity_keys,
                last_replica_id=question.last_replica_id,
                prompt=(question.judged or question.user_message)[-MAX_JUDGED_CHARACTERS:],
                prompt_characters=len(question.judged or question.user_message),
                capabilities=question.capabilities,
                excluded=tuple(excluded),
                failed=failed,
                escalated_from=escalated_from,
                background=question.background,
                continues=continues or question.continues,
            )
        )


def reserved_tokens(requested: int | None, route: Route) -> int:
    """Tokens of the context to keep free for the answer."""
    most = route.model.context_length // MAX_RESERVED_SHARE
    return min(requested or route.model.max_output_tokens, route.model.max_output_tokens, most)


def _prepared(
    question: Question, route: Route, prompt: Prompt, *, verdict: InputVerdict, quota: int | None
) -> Prepared:
    prompt = _as_checked(prompt, verdict)
    limits = [question.sampling.max_tokens or route.model.max_output_tokens, prompt.available_output_tokens]
    if quota is not None:
        limits.append(quota)
    return Prepared(
        route=route,
        prompt=prompt,
        sampling=replace(question.sampling, max_tokens=min(limits)),
        verdict=verdict,
        quota=quota,
    )


def _as_checked(prompt: Prompt, verdict: InputVerdict) -> Prompt:
    """The prompt with what moderation replaced in it, and with what it has the model told about the last message.

    The note stands right before that message, so that the beginning of the prompt is the one that replicas have cached.
    """
    if verdict.redacted is None and not verdict.note and not verdict.redacted_others:
        return prompt
    *before, last = [_redacted(message, verdict.redacted_others) for message in prompt.messages]
    if verdict.redacted is not None:
        last = replace(last, content=verdict.redacted)
    room = prompt.available_output_tokens
    if verdict.note:
        before.append(ChatMessage(Role.SYSTEM, verdict.note))
        room = max(1, room - len(verdict.note.encode()) // BYTES_PER_TOKEN - NOTE_TOKENS)
    return replace(prompt, messages=(*before, last), available_output_tokens=room)


def _redacted(message: ChatMessage, others: Mapping[str, str]) -> ChatMessage:
    """A message with what was replaced in the texts that it is made of: one, or of instructions several."""
    content = message.content
    for text, redacted in others.items():
        if text in content:
            content = content.replace(text, redacted)
    return message if content == message.content else replace(message, content=content)
