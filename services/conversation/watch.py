"""Reads a generation's events from any position, wherever it runs and whether or not it has ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from services.conversation.generation_log import (
    Completed,
    Delta,
    Entry,
    Failed,
    GenerationLog,
    LogMovedError,
    Retracted,
    Started,
)
from services.conversation.generation_store import GenerationStore, StoredAnswer
from services.conversation.log_store import LogStore, LogUnavailableError
from services.conversation.log_tail import LogTail
from services.conversation.log_writer import LogWriter
from services.conversation.model import Generation, GenerationState
from services.runtime.errors import DomainError, FieldViolation, Reason

SILENCE_S = 2.0
"""How long another server's log may be silent before the database is asked what has become of the generation."""
LAST_WORDS_S = 0.5
"""The same for a log whose end is stored by now: its owner says it as soon as that is so, unless it has just died."""
NO_EVENT = 2**31 - 1
"""A position after every event."""


class Watch:
    """Where events come from: the log here, the log of another server in Redis, or the stored answer."""

    def __init__(self, *, writer: LogWriter, store: LogStore, tail: LogTail, generations: GenerationStore) -> None:
        self._writer = writer
        self._store = store
        self._tail = tail
        self._generations = generations
        self._closing = False

    def close(self) -> None:
        """Follow nothing any more that runs elsewhere: this server is about to go, and its clients should, too."""
        self._closing = True

    async def check(self, generation: Generation, *, after_seq: int) -> None:
        """See that a client can have come as far as it says: after a wrong position it would wait for nothing.

        Of one that runs elsewhere that is not known before it has ended: while Redis was away its readers got what no
        log has yet.

        Raises:
            DomainError: INVALID_FIELD, GENERATION_NOT_FOUND.
        """
        if not after_seq:
            return
        log = self._writer.find(generation.id)
        if log is not None and not log.moved and not generation.revised:
            last = log.end_seq if log.closed else log.end_seq - 1
        elif generation.state is not GenerationState.OPEN and (answer := await self._generations.ended(generation.id)):
            last = replay(answer, 0)[-1].seq
        else:
            return
        if after_seq > last:
            what = f"must be at most {last}, the position of the last event"
            raise DomainError(Reason.INVALID_FIELD, f"after_seq {what}.", fields=[FieldViolation("after_seq", what)])

    async def events(
        self,
        generation_id: str,
        *,
        after_seq: int = 0,
        log: GenerationLog | None = None,
        ended: bool = False,
        revised: bool = False,
    ) -> AsyncIterator[Sequence[Entry]]:
        """The events after a position, to the terminal one; all that is there at a time, neighbouring text merged.

        Args:
            generation_id: Of whom; that the caller may see it was checked before.
            after_seq: Position of the last event that is known.
            log: Its log, when it is known to run here.
            ended: Whether the database was seen to know its end.
            revised: Whether the answer was changed since. Then the database knows, and no log.

        Raises:
            DomainError: GENERATION_NOT_FOUND, LOG_UNAVAILABLE.
        """
        if revised and (answer := await self._generations.ended(generation_id)) is not None:
            if replayed := replay(answer, after_seq):
                yield replayed
            return
        log = log or self._writer.find(generation_id)
        while True:
            source = self._local(log, after_seq) if log else self._remote(generation_id, after_seq, ended=ended)
            try:
                async for entries in source:
                    yield entries
                    after_seq = max(after_seq, entries[-1].seq)
                return
            except LogMovedError:
                # It goes on elsewhere, or has come here.
                log = self._writer.find(generation_id)
                if self._closing:
                    raise DomainError(Reason.DRAINING, "This server is shutting down; watch again.") from None

    async def end(self, generation_id: str) -> None:
        """Wait until a generation has ended."""
        while True:
            try:
                async for _ in self.events(generation_id, after_seq=NO_EVENT):
                    pass
                return
            except DomainError as error:
                if error.reason is Reason.GENERATION_NOT_FOUND:
                    return
                if error.reason is not Reason.LOG_UNAVAILABLE:
                    raise
                await asyncio.sleep(SILENCE_S / 4)

    async def _local(self, log: GenerationLog, after_seq: int) -> AsyncIterator[Sequence[Entry]]:
        while entries := await log.read(after_seq):
            yield entries
            after_seq = entries[-1].seq

    async def _remote(self, generation_id: str, after_seq: int, *, ended: bool) -> AsyncIterator[Sequence[Entry]]:
        reachable = True
        try:
            last = await self._store.last(generation_id)
        except LogUnavailableError:
            last, reachable = None, False
        if last is None:
            answer = await self._generations.ended(generation_id)
            if answer is not None:
                if replayed := replay(answer, after_seq):
                    yield replayed
                return
            if not reachable:
                raise _unavailable(generation_id)
        async with self._tail.follow(generation_id) as log:
            while True:
                try:
                    async with asyncio.timeout(LAST_WORDS_S if ended else SILENCE_S):
                        news = await log.read(after_seq)
                except TimeoutError:
                    if (answer := await self._silent(generation_id)) is None:
                        continue
                    # What the log lacks, the terminal event has.
                    news = replay(answer, after_seq)
                if not news:
                    return
                yield news
                after_seq = news[-1].seq
                if isinstance(news[-1].event, Completed | Failed):
                    return

    async def _silent(self, generation_id: str) -> StoredAnswer | None:
        """What has become of a generation whose log says nothing; None when it still runs elsewhere."""
        if self._writer.find(generation_id) is not None:
            raise LogMovedError
        answer = await self._generations.ended(generation_id)
        if answer is None:
            try:
                await self._store.check()
            except LogUnavailableError as error:
                raise _unavailable(generation_id) from error
        return answer


def replay(answer: StoredAnswer, after_seq: int) -> list[Entry]:
    """The events of a generation whose log is gone, made again from what is stored.

    Who has seen some of them gets the terminal event only: which part of the text they have is not known any more. Of
    an answer that was changed after its end they get before it that nothing stays of what they have.
    """
    message, last = answer.message, answer.last_seq
    end = Failed(message.error, message) if message.error else Completed(message)
    if after_seq >= last:
        return []
    if after_seq:
        revision = answer.revision
        if revision is None or revision.length is None or after_seq >= last - 1:
            return [Entry(last, end)]
        return [Entry(last - 1, Retracted(0, revision.length, message.content, revision.category)), Entry(last, end)]
    entries = [Entry(1, Started(message.conversation_id, message.parent_id, message.id))]
    if message.content:
        entries.append(Entry(max(2, last - 1), Delta(message.content)))
    return [*entries, Entry(max(3, last), end)]


def _unavailable(generation_id: str) -> DomainError:
    return DomainError(
        Reason.LOG_UNAVAILABLE,
        "The generation runs on another server and its log cannot be read now; try again shortly.",
        metadata={"generation_id": generation_id},
    )
