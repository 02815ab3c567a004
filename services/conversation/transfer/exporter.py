"""Writes a user's conversations as a file, piece by piece."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from enum import StrEnum

from services.conversation.model import Conversation, Message
from services.conversation.store import conversation_not_found
from services.conversation.transfer import export_json, export_markdown
from services.conversation.transfer.export_json import JsonExport
from services.conversation.transfer.export_markdown import MarkdownExport
from services.conversation.transfer.export_window import Run, rest, windows
from services.conversation.transfer.transfer_store import Shown, TransferStore
from services.runtime.clock import Clock

WINDOW_MESSAGES = 500
PART_BYTES = 256 * 1024


class ExportForm(StrEnum):
    """The form of an export; its value is the content type."""

    JSON = export_json.CONTENT_TYPE
    MARKDOWN = export_markdown.CONTENT_TYPE


class Exporter:
    """Exports conversations. Its memory is that of one window, however many messages there are."""

    def __init__(self, *, store: TransferStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def export(self, *, user_id: str, conversation_id: str, form: ExportForm) -> AsyncIterator[bytes]:
        """The parts of the file; each is at most PART_BYTES long.

        Args:
            conversation_id: Only this one; empty for all.

        Raises:
            DomainError: CONVERSATION_NOT_FOUND, before the first part.
        """
        buffer = bytearray()
        async for text in self._texts(user_id, conversation_id, form):
            buffer += text.encode()
            while len(buffer) >= PART_BYTES:
                yield bytes(buffer[:PART_BYTES])
                del buffer[:PART_BYTES]
        yield bytes(buffer)

    async def _texts(self, user_id: str, conversation_id: str, form: ExportForm) -> AsyncIterator[str]:
        page = await self._store.conversations(user_id=user_id, conversation_id=conversation_id, before=None)
        if conversation_id and not page:
            raise conversation_not_found(conversation_id)
        along_branches = form is ExportForm.MARKDOWN
        writer = MarkdownExport() if along_branches else JsonExport(exported_at=self._clock.now())
        yield writer.begin()
        while page:
            async for text in self._page(page, writer, along_branches=along_branches):
                yield text
            last = page[-1].conversation
            page = await self._store.conversations(
                user_id=user_id, conversation_id=conversation_id, before=(last.created_at, last.id)
            )
        yield writer.end()

    async def _page(
        self, page: Sequence[Shown], writer: JsonExport | MarkdownExport, *, along_branches: bool
    ) -> AsyncIterator[str]:
        opened = -1

        def turn_to(number: int) -> Iterable[str]:
            nonlocal opened
            while opened < number:
                if opened >= 0:
                    yield writer.close()
                opened += 1
                yield writer.open(page[opened].conversation)

        runs = _branch_runs(page) if along_branches else _tree_runs([shown.conversation for shown in page])
        async for number, message in self._messages(runs, along_branches=along_branches):
            yield "".join(turn_to(number)) + writer.message(message)
        # Also those that have no messages.
        yield "".join(turn_to(len(page) - 1)) + writer.close()

    async def _messages(self, runs: Iterable[Run], *, along_branches: bool) -> AsyncIterator[tuple[int, Message]]:
        for asked in windows(runs, size=WINDOW_MESSAGES):
            left = asked
            while left:
                window = await self._store.messages(left, along_branches=along_branches)
                for number, message in window.messages:
                    yield number, message
                if window.complete:
                    break
                number, message = window.messages[-1]
                left = rest(left, number=number, position=message.depth if along_branches else message.sequence)


def _tree_runs(page: Sequence[Conversation]) -> Iterable[Run]:
    for number, conversation in enumerate(page):
        if conversation.message_count:
            yield Run(number, conversation.id, 0, 1, conversation.message_count)


def _branch_runs(page: Sequence[Shown]) -> Iterable[Run]:
    for number, shown in enumerate(page):
        for stretch in shown.path.stretches(1, shown.depth):
            yield Run(number, shown.conversation.id, stretch.branch, stretch.low, stretch.high)
