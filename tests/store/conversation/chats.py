"""Conversations that tests hold by the stores themselves."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import pytest

from services.conversation.chat_model import FinishReason, Sampling, TokenUsage
from services.conversation.message_store import MessageStore
from services.conversation.model import Conversation, Message, MessageStatus, OpenTurn, Outcome, TurnKind, TurnTarget
from services.conversation.store import ConversationStore
from services.conversation.turn_store import KnownRequest, TurnStore
from services.runtime.clock import Clock
from services.runtime.database import Database
from services.runtime.errors import DomainError, Reason
from tests.store.conversation.seeding import HandClock


def outcome(content: str = "the answer", status: MessageStatus = MessageStatus.COMPLETED) -> Outcome:
    """How an answer ends."""
    return Outcome(status, FinishReason.STOP, content, TokenUsage(10, 3, 0))


async def refused(reason: Reason, call: Awaitable[Any]) -> DomainError:
    """The error with which a call is refused."""
    with pytest.raises(DomainError) as caught:
        await call
    assert caught.value.reason is reason
    return caught.value


class Chat:
    """A conversation, and what its user does in it."""

    def __init__(self, database: Database, *, clock: Clock | None = None, user: str = "alice") -> None:
        clock = clock or HandClock()
        self.database = database
        self.user = user
        self.id = ""
        self.conversations = ConversationStore(database=database, clock=clock)
        self.turns = TurnStore(database=database, clock=clock, owner="here")
        self.messages = MessageStore(database=database, clock=clock)

    async def create(self, *, model: str = "", system_prompt: str = "") -> Chat:
        """Open the conversation."""
        made = await self.conversations.create(
            user_id=self.user, title="t", model=model, system_prompt=system_prompt, request_id=""
        )
        self.id = made.id
        return self

    def adopt(self, conversation_id: str) -> Chat:
        """Take a conversation that is there."""
        self.id = conversation_id
        return self

    async def begin(
        self,
        content: str = "hello",
        *,
        kind: TurnKind = TurnKind.SEND,
        message_id: str = "",
        request_id: str = "",
        model: str = "",
        sampling: Sampling | None = None,
        user: str = "",
        residency: str = "",
        tenant_id: str = "",
    ) -> OpenTurn | KnownRequest:
        """Begin a turn."""
        return await self.turns.begin_turn(
            user_id=user or self.user,
            tier="free",
            conversation_id=self.id,
            content="" if kind is TurnKind.REGENERATE else content,
            model=model,
            request_id=request_id,
            request_hash=f"{content} {kind} {message_id}",
            target=TurnTarget(kind, message_id),
            sampling=sampling or Sampling(),
            residency=residency,
            tenant_id=tenant_id,
        )

    async def open(self, content: str = "hello", **asked: Any) -> OpenTurn:
        """Begin a turn that nothing is in the way of."""
        turn = await self.begin(content, **asked)
        assert isinstance(turn, OpenTurn)
        return turn

    async def end(self, turn: OpenTurn, result: Outcome | None = None) -> Message:
        """End a turn."""
        message = await self.turns.finish_turn(turn, result or outcome(), model="m", route=None, last_seq=3)
        assert message is not None
        return message

    async def say(self, content: str = "hello", **asked: Any) -> OpenTurn:
        """A whole turn, answered by the question in brackets."""
        turn = await self.open(content, **asked)
        await self.end(turn, outcome(f"[{content}]"))
        return turn

    async def edit(self, message_id: str, content: str, **asked: Any) -> OpenTurn:
        """A whole turn that begins with another version of a message."""
        return await self.say(content, kind=TurnKind.EDIT, message_id=message_id, **asked)

    async def regenerate(self, message_id: str, content: str, **asked: Any) -> OpenTurn:
        """Another answer; `content` is what it says in brackets."""
        return await self.say(content, kind=TurnKind.REGENERATE, message_id=message_id, **asked)

    async def select(self, message_id: str) -> Conversation:
        """Show the branch of a message."""
        return await self.messages.select(user_id=self.user, conversation_id=self.id, message_id=message_id)

    async def get(self) -> Conversation:
        """The conversation."""
        return await self.conversations.get(user_id=self.user, conversation_id=self.id)

    async def message(self, message_id: str) -> Message:
        """A message."""
        return await self.messages.get(user_id=self.user, conversation_id=self.id, message_id=message_id)

    async def branch(
        self, leaf_message_id: str = "", *, page_size: int = 100, newest_first: bool = False
    ) -> list[Message]:
        """All messages of a branch, read page by page."""
        found: list[Message] = []
        while True:
            page = (
                await self.messages.list_branch(
                    user_id=self.user,
                    conversation_id=self.id,
                    leaf_message_id=leaf_message_id,
                    limit=page_size,
                    after=found[-1].depth if found else None,
                    newest_first=newest_first,
                )
            ).messages
            found += page
            if len(page) < page_size:
                return found

    async def texts(self, leaf_message_id: str = "") -> str:
        """What is said on a branch."""
        return " ".join(message.content for message in await self.branch(leaf_message_id))
