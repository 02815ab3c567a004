"""Chats that are never stored: the client holds them, and nothing of their text is written anywhere."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from services.conversation.chat_model import ChatMessage, Role, Sampling
from services.conversation.choices import Completion
from services.conversation.completion import CompletionRequest, CompletionRunner
from services.conversation.generation_log import Completed, Entry, Event, Failed, Started
from services.conversation.model import Message
from services.conversation.user_store import UserStore
from services.runtime.clock import Clock
from services.runtime.errors import DomainError, FieldViolation, Reason
from services.runtime.identity import Identity


class TemporaryChat:
    """Answers chats that the client sends whole."""

    def __init__(self, *, completions: CompletionRunner, users: UserStore, clock: Clock) -> None:
        self._completions = completions
        self._users = users
        self._clock = clock

    async def begin(
        self,
        identity: Identity,
        *,
        messages: Sequence[ChatMessage],
        model: str,
        system_prompt: str,
        sampling: Sampling,
    ) -> Completion:
        """Begin an answer. Older messages that do not fit into the model's context are left out.

        Raises:
            DomainError: INVALID_FIELD, or the refusal.
        """
        _check(messages)
        settings = await self._users.settings(user_id=identity.user_id)
        request = CompletionRequest(
            model=model or settings.default_model or "auto",
            system_prompt=system_prompt,
            custom_instructions=settings.custom_instructions,
            history=tuple(messages[:-1]),
            user_message=messages[-1].content,
            sampling=sampling,
            truncate=True,
        )
        return await self._completions.begin(identity, request)

    async def events(self, completion: Completion) -> AsyncIterator[Sequence[Entry]]:
        """The events of an answer. Who leaves before its end stops it."""
        log = completion.log
        seq = 0
        try:
            yield [Entry(1, Started("", "", ""))]
            while entries := await log.read(seq):
                seq = entries[-1].seq
                yield [
                    replace(entry, seq=entry.seq + 1, event=self._event(completion, entry.event)) for entry in entries
                ]
        finally:
            if not log.closed:
                self._completions.stop(completion)

    def _event(self, completion: Completion, event: Event) -> Event:
        """The event with the answer as it would be stored, if it were."""
        outcome = completion.outcome
        if outcome is None or not isinstance(event, Completed | Failed):
            return event
        message = Message(
            id="",
            conversation_id="",
            parent_id="",
            role=Role.ASSISTANT,
            content=outcome.content,
            status=outcome.status,
            sequence=0,
            created_at=self._clock.now(),
            generation_id=completion.log.generation_id,
            model=completion.route.model,
            finish_reason=outcome.finish_reason,
            usage=outcome.usage,
            route=completion.route,
            error=outcome.error,
        )
        return replace(event, message=message)


def _check(messages: Sequence[ChatMessage]) -> None:
    wrong = [at for at, message in enumerate(messages) if message.role not in (Role.USER, Role.ASSISTANT)]
    if wrong:
        what = f"messages[{wrong[0]}].role"
        raise DomainError(
            Reason.INVALID_FIELD,
            f"{what}: only the user and the assistant speak here; instructions go into system_prompt.",
            fields=[FieldViolation(what, "must be ROLE_USER or ROLE_ASSISTANT")],
        )
    if messages[-1].role is not Role.USER or not messages[-1].content.strip():
        what = f"messages[{len(messages) - 1}]"
        raise DomainError(
            Reason.INVALID_FIELD,
            f"{what}: the last message must be the user's, and not blank.",
            fields=[FieldViolation(what, "must be a message of the user that is not blank")],
        )
