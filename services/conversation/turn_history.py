"""What was said before a turn, page by page, for the assembly of its prompt."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from services.conversation.chat_model import ChatMessage
from services.conversation.model import OpenTurn
from services.conversation.turn_store import TurnStore


def history_pages(
    store: TurnStore, turn: OpenTurn
) -> Callable[[int], Awaitable[tuple[Sequence[tuple[str, ChatMessage]], bool]]]:
    """A function that gives the next older messages, at most as many as it is asked for, and whether none are left.

    A page without messages says that none are left: stretches of which the model sees nothing are passed over.
    """
    before = turn.user_message.depth

    async def next_page(limit: int) -> tuple[Sequence[tuple[str, ChatMessage]], bool]:
        nonlocal before
        while before > 1:
            page = await store.history(
                conversation_id=turn.conversation_id, path=turn.path, before_depth=before, limit=max(limit, 1)
            )
            before = page.low
            if page.messages:
                return [(id_, message) for _, id_, message in page.messages], before <= 1
        return [], True

    return next_page
