"""A user does not agree with what moderation did about a message, or about the answer to it."""

from __future__ import annotations

from services.conversation.chat_model import Role
from services.conversation.message_store import MessageStore
from services.conversation.model import Message
from services.conversation.peers.review import ReviewPeer
from services.runtime.errors import DomainError, Reason


class Appeals:
    """Finds the event that a message has led to, and asks for another look at it."""

    def __init__(self, *, messages: MessageStore, review: ReviewPeer) -> None:
        self._messages = messages
        self._review = review

    async def appeal(self, *, user_id: str, conversation_id: str, message_id: str, appeal: str) -> Message:
        """Appeal against what was done about a message. Returns the message.

        Raises:
            DomainError: CONVERSATION_NOT_FOUND, MESSAGE_NOT_FOUND; EVENT_NOT_FOUND when nothing was done about it, or
                it was too long ago; WRONG_EVENT_STATE when there was an appeal before.
        """
        message = await self._messages.get(user_id=user_id, conversation_id=conversation_id, message_id=message_id)
        event_id = _event(message)
        if not event_id and message.role is Role.USER:
            answers = await self._messages.answers(message)
            event_id = next((found for answer in answers if (found := _event_of_question(answer))), "")
        if not event_id:
            raise _nothing_to_appeal(message.id)
        try:
            await self._review.appeal(event_id=event_id, user_id=user_id, appeal=appeal)
        except DomainError as error:
            if error.reason is Reason.EVENT_NOT_FOUND:
                raise _nothing_to_appeal(message.id) from error
            raise
        return message


def _event(message: Message) -> str:
    """What was done about a text: why it was refused or taken back; of an answer also what was changed in it."""
    refused = message.error.metadata.get("event_id", "") if message.error is not None else ""
    receipt = message.route.moderation if message.route is not None else None
    changed = receipt.output.event_id if receipt is not None and receipt.output is not None else ""
    return refused or changed


def _event_of_question(answer: Message) -> str:
    """What was done about the question, as its answer knows it."""
    receipt = answer.route.moderation if answer.route is not None else None
    return receipt.input.event_id if receipt is not None and receipt.input is not None else ""


def _nothing_to_appeal(message_id: str) -> DomainError:
    return DomainError(
        Reason.EVENT_NOT_FOUND,
        "Moderation did nothing about this message that can be appealed against.",
        metadata={"message_id": message_id},
    )
