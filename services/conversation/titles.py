"""Gives a conversation its title after the first exchange: written by a model, beside everything else."""

from __future__ import annotations

import logging
import re

from services.conversation.answer_end import REFUSED
from services.conversation.chat_model import FinishReason, Sampling
from services.conversation.completion import CompletionRequest, CompletionRunner
from services.conversation.message_store import MessageStore
from services.conversation.model import Message, OpenTurn
from services.conversation.store import ConversationStore
from services.runtime.errors import DomainError, Reason
from services.runtime.identity import Identity
from services.runtime.live_tasks import LiveTasks

_log = logging.getLogger(__name__)

MAX_LENGTH = 60
MAX_TOKENS = 24
_EXCERPT = 1000
"""Characters of the question and of the answer that the title is made from."""
_SYSTEM_PROMPT = "You write short titles for conversations. Answer with the title only, in at most six words."
_DECORATION = re.compile(r"^[\s\"'*#`“”‘’]*(?:title\s*:)?[\s\"'*#`“”‘’]*|[\s\"'*`“”‘’.]+$", re.IGNORECASE)


class Titles:
    """Titles the conversations of which the first turn has just been answered.

    Args:
        completions: Generates; what it takes counts as the user's, as any generation.
        store: The conversations.
        messages: Their messages.
        model: Model or alias that writes titles; empty takes the first words of the question instead.
    """

    def __init__(
        self, *, completions: CompletionRunner, store: ConversationStore, messages: MessageStore, model: str
    ) -> None:
        self._completions = completions
        self._store = store
        self._messages = messages
        self._model = model
        self._tasks = LiveTasks(grace_s=0.0)

    def consider(self, turn: OpenTurn, answer: Message) -> None:
        """Write a title when this turn was the first and the user gave none. Returns at once."""
        if turn.user_message.depth == 1 and turn.own_question:
            self._tasks.start(self._title(turn, answer))

    async def drain(self) -> None:
        """Leave off; a conversation without a title is none the worse."""
        await self._tasks.drain(self._tasks.cancel)

    async def _title(self, turn: OpenTurn, answer: Message) -> None:
        try:
            conversation = await self._store.get(user_id=turn.user_id, conversation_id=turn.conversation_id)
            if conversation.title:
                return
            # As it is stored: what Moderation took out of it must not come back in a title.
            stored = await self._messages.get(
                user_id=turn.user_id, conversation_id=turn.conversation_id, message_id=turn.user_message.id
            )
            question = stored.content
            title = tidy_title(await self._write(turn, question, answer.content)) if self._model else ""
            await self._store.give_title(turn.conversation_id, title or tidy_title(question))
        except DomainError as error:
            _log.info("no title was written", extra={"reason": error.reason.value})

    async def _write(self, turn: OpenTurn, question: str, answer: str) -> str:
        """What the model says; nothing when it does not come to its end.

        Raises:
            DomainError: CONTENT_BLOCKED, CONTENT_HELD, and then the question makes no title either; DRAINING.
        """
        request = CompletionRequest(
            model=self._model,
            system_prompt=_SYSTEM_PROMPT,
            history=(),
            user_message=f"User: {question[:_EXCERPT]}\n\nAssistant: {answer[:_EXCERPT]}\n\nThe title is:",
            sampling=Sampling(temperature=0.0, max_tokens=MAX_TOKENS),
            background=True,
        )
        try:
            identity = Identity(turn.user_id, turn.tier, turn.residency, turn.tenant_id)
            completion = await self._completions.begin(identity, request)
        except DomainError as error:
            if error.reason in (*REFUSED, Reason.DRAINING):
                raise
            return ""
        seq = 0
        while entries := await completion.log.read(seq):
            seq = entries[-1].seq
        outcome = completion.outcome
        good = outcome is not None and outcome.finish_reason in (FinishReason.STOP, FinishReason.LENGTH)
        return outcome.content if outcome and good else ""


def tidy_title(text: str) -> str:
    """The first line, without quotes and marks around it, cut at a word."""
    line = next((line for line in text.splitlines() if line.strip()), "")
    line = _DECORATION.sub("", " ".join(line.split()))
    if len(line) <= MAX_LENGTH:
        return line
    cut = line[: MAX_LENGTH - 1]
    return (cut.rpartition(" ")[0] or cut).rstrip(" ,;:-") + "…"
