"""Brings the conversations of a file in."""

from __future__ import annotations

import asyncio
import gc
import json
import uuid
from collections.abc import AsyncIterable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from services.conversation.transfer.import_file import ImportFile, invalid_import, open_import
from services.conversation.transfer.imported import BrokenConversationError, ImportedConversation, title_of
from services.conversation.transfer.placing import Placed, place
from services.conversation.transfer.transfer_store import TransferStore
from services.runtime.errors import DomainError, Reason

T = TypeVar("T")

MAX_BYTES = 64 * 1024 * 1024
MAX_PROBLEMS = 100
MAX_PROBLEM_TITLE = 200
MAX_AT_ONCE = 4
"""How many files a process holds at once."""
RETRY_AFTER_S = 30.0

_IMPORTS = uuid.UUID("0c9b7f0e-63a5-4d0b-8a53-3f2f3d1c5a77")
"""Namespace of the ids of imported conversations."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a conversation could not be imported. `index` is its place in the file, from 0."""

    index: int
    title: str
    message: str


@dataclass(slots=True)
class ImportReport:
    """What became of a file."""

    imported: int = 0
    skipped: int = 0
    messages: int = 0
    problems: list[Problem] = field(default_factory=list)


class Importer:
    """Imports files. A conversation is stored as a whole or not at all, and one that is broken hurts no other."""

    def __init__(self, *, store: TransferStore) -> None:
        self._store = store
        self._running = 0
        # One at a time is read, whatever is stored meanwhile: it is work for the processor, and takes memory.
        self._reading = asyncio.Lock()

    async def import_file(self, *, user_id: str, parts: AsyncIterable[bytes]) -> ImportReport:
        """Import what was not imported before.

        The id of a conversation comes from the user and from the one that it has in the file. Who imports a file
        again, for instance since the first call was cut, so gets what is missing.

        Raises:
            DomainError: INVALID_IMPORT when the file cannot be read as a whole; then nothing was imported. OVERLOADED
                when too many are imported now.
        """
        if self._running >= MAX_AT_ONCE:
            raise DomainError(
                Reason.OVERLOADED, "Too many files are imported now; try again shortly.", retry_after_s=RETRY_AFTER_S
            )
        self._running += 1
        try:
            file = await self._in_thread(partial(open_import, await _whole(parts)))
            report = ImportReport()
            for index in range(len(file.spans)):
                await self._import(user_id, file, index, report)
            return report
        finally:
            self._running -= 1

    async def _import(self, user_id: str, file: ImportFile, index: int, report: ImportReport) -> None:
        title, found = await self._in_thread(partial(_read, file, index))
        try:
            if isinstance(found, BrokenConversationError):
                raise found
            conversation, placed = found
            stored = await self._store.store(
                user_id=user_id,
                conversation_id=str(uuid.uuid5(_IMPORTS, json.dumps([user_id, conversation.source_id]))),
                imported=conversation,
                placed=placed,
            )
        except BrokenConversationError as error:
            if len(report.problems) < MAX_PROBLEMS:
                report.problems.append(Problem(index, title[:MAX_PROBLEM_TITLE], str(error)))
            return
        if stored:
            report.imported += 1
            report.messages += len(conversation.messages)
        else:
            report.skipped += 1

    async def _in_thread(self, work: Callable[[], T]) -> T:
        async with self._reading:
            return await asyncio.to_thread(_without_collection, work)


async def _whole(parts: AsyncIterable[bytes]) -> bytes:
    data = bytearray()
    async for part in parts:
        data += part
        if len(data) > MAX_BYTES:
            raise invalid_import(f"The file is larger than {MAX_BYTES // 2**20} MiB; import it in parts.")
    return bytes(data)


def _read(file: ImportFile, index: int) -> tuple[str, tuple[ImportedConversation, Placed] | BrokenConversationError]:
    """The title of a conversation and what is to be stored, or why it cannot be."""
    source = file.source(index)
    title = title_of(source)
    try:
        conversation = file.read(source)
    except BrokenConversationError as error:
        return title, error
    return title, (conversation, place(conversation.parents))


def _without_collection(work: Callable[[], T]) -> T:
    """Do work that makes very many objects and no cycles.

    Python's search for cycles would go through all of them again and again, and hold up every thread meanwhile: half a
    second for a conversation of 30,000 messages.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        return work()
    finally:
        if enabled:
            gc.enable()
