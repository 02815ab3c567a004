"""Which event an appeal names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from services.conversation.appeals import Appeals
from services.conversation.chat_model import Role
from services.conversation.model import ErrorSummary, Message, MessageStatus
from services.conversation.moderation_model import ModerationCheck, ModerationMode, ModerationReceipt
from services.conversation.route_model import RouteReceipt
from services.runtime.errors import DomainError, Reason

QUESTION = Message("q", "c", "", Role.USER, "Hello", MessageStatus.COMPLETED, 1, datetime.now(UTC))
ANSWER = Message("a", "c", "q", Role.ASSISTANT, "Hi", MessageStatus.COMPLETED, 2, datetime.now(UTC))


def refused(event_id: str) -> ErrorSummary:
    return ErrorSummary("FAILED_PRECONDITION", Reason.CONTENT_HELD.value, "no", {"event_id": event_id})


def moderated(*, question: str = "", answer: str = "") -> RouteReceipt:
    receipt = ModerationReceipt(
        "p1",
        ModerationCheck(ModerationMode.CHECKED, "warn", event_id=question),
        ModerationCheck(ModerationMode.CHECKED, "redact", event_id=answer),
    )
    return RouteReceipt("auto", "m", "synthetic", "r", "only", moderation=receipt)


class Parts:
    """The stored messages, and the queue."""

    def __init__(self, *messages: Message, refuses: DomainError | None = None) -> None:
        self.messages = {message.id: message for message in messages}
        self.appeals: list[tuple[str, str, str]] = []
        self.refuses = refuses

    async def get(self, *, user_id: str, conversation_id: str, message_id: str) -> Message:
        assert (user_id, conversation_id) == ("u", "c")
        return self.messages[message_id]

    async def answers(self, question: Message) -> Sequence[Message]:
        return [message for message in reversed(self.messages.values()) if message.parent_id == question.id]

    async def appeal(self, *, event_id: str, user_id: str, appeal: str) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.appeals.append((event_id, user_id, appeal))


async def appeal(parts: Parts, message_id: str) -> Message:
    appeals = Appeals(messages=cast(Any, parts), review=cast(Any, parts))
    return await appeals.appeal(user_id="u", conversation_id="c", message_id=message_id, appeal="It is fine.")


@pytest.mark.parametrize(
    ("question", "answer", "message_id", "event_id"),
    [
        # Refused: both know why.
        (replace(QUESTION, error=refused("e1")), replace(ANSWER, error=refused("e1")), "q", "e1"),
        (replace(QUESTION, error=refused("e1")), replace(ANSWER, error=refused("e1")), "a", "e1"),
        # Changed, and answered: the answer knows of both.
        (QUESTION, replace(ANSWER, route=moderated(question="e1", answer="e2")), "q", "e1"),
        (QUESTION, replace(ANSWER, route=moderated(question="e1", answer="e2")), "a", "e2"),
        # What was taken back last counts.
        (QUESTION, replace(ANSWER, route=moderated(answer="e2"), error=refused("e3")), "a", "e3"),
    ],
)
async def test_the_event_is_that_of_the_message(
    question: Message, answer: Message, message_id: str, event_id: str
) -> None:
    parts = Parts(question, answer)
    assert await appeal(parts, message_id) == parts.messages[message_id]
    assert parts.appeals == [(event_id, "u", "It is fine.")]


async def test_of_several_answers_the_newest_knows_best() -> None:
    first = replace(ANSWER, route=moderated(question="e1"))
    parts = Parts(QUESTION, first, replace(first, id="b", route=moderated(question="e2")), replace(ANSWER, id="c"))
    await appeal(parts, "q")
    assert parts.appeals[0][0] == "e2"


@pytest.mark.parametrize(
    "answer",
    [ANSWER, replace(ANSWER, route=moderated()), replace(ANSWER, error=replace(refused(""), metadata={}))],
)
async def test_there_is_nothing_to_appeal_against(answer: Message) -> None:
    parts = Parts(QUESTION, answer)
    for message_id in ("q", "a"):
        with pytest.raises(DomainError) as caught:
            await appeal(parts, message_id)
        assert caught.value.reason is Reason.EVENT_NOT_FOUND
        assert caught.value.metadata == {"message_id": message_id}


async def test_an_event_that_is_too_old_is_nothing_to_appeal_against() -> None:
    gone = DomainError(Reason.EVENT_NOT_FOUND, "gone", metadata={"event_id": "e1"})
    with pytest.raises(DomainError) as caught:
        await appeal(Parts(replace(QUESTION, error=refused("e1")), refuses=gone), "q")
    assert caught.value.metadata == {"message_id": "q"}


async def test_a_second_appeal_is_refused_as_the_queue_says() -> None:
    again = DomainError(Reason.WRONG_EVENT_STATE, "again", metadata={"event_id": "e1", "state": "pending"})
    with pytest.raises(DomainError) as caught:
        await appeal(Parts(replace(QUESTION, error=refused("e1")), refuses=again), "q")
    assert caught.value is again
