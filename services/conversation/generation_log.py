"""The log of one generation: typed events in order, appended before they are delivered.

Any number of readers follow it, each with nothing but the position it has seen. A reader that is behind gets all that
it missed at once, neighbouring text merged: a slow client costs no memory of its own and no extra messages.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice

from services.conversation.chat_model import FinishReason, GeneratedPiece, TokenUsage
from services.conversation.model import ErrorSummary, Message
from services.conversation.route_model import RouteReceipt
from services.conversation.written_pieces import join_pieces, replaced


@dataclass(frozen=True, slots=True, order=True)
class Replacement:
    """A range of what the model wrote, in code points, and what stands there instead."""

    start: int
    end: int
    text: str
    category: str


@dataclass(frozen=True, slots=True)
class Written:
    """What the model wrote, from where the event before ended: pieces, and the number of tokens behind them.

    Only who continues the generation needs it. Without pieces it is the event's own text. `replaced` are the parts of
    it that were replaced before they were shown.
    """

    pieces: tuple[GeneratedPiece, ...] = ()
    tokens: int = 0
    replaced: tuple[Replacement, ...] = ()


AS_SHOWN = Written()
"""Nothing but the event's own text."""


@dataclass(frozen=True, slots=True)
class Started:
    """The turn has begun. `model`, `max_tokens` and `route` are what was decided for it."""

    conversation_id: str
    user_message_id: str
    message_id: str
    model: str = ""
    max_tokens: int = 0
    route: RouteReceipt | None = None


@dataclass(frozen=True, slots=True)
class Delta:
    """More text at the end."""

    text: str
    written: Written = AS_SHOWN


@dataclass(frozen=True, slots=True)
class Retracted:
    """Text that must go; offsets in code points of the answer as shown so far.

    `written_start` and `written_end` are the range in what the model wrote; `written` is what of it no delta showed.
    """

    start: int
    end: int
    replacement: str
    category: str
    written_start: int = 0
    written_end: int = 0
    written: Written = AS_SHOWN


class NoticeKind(StrEnum):
    """What has happened to a generation that goes on."""

    RESUME_UNAVAILABLE = "resume_unavailable"
    RESUME_AVAILABLE = "resume_available"
    ENGINE_REPLACED = "engine_replaced"
    OWNER_REPLACED = "owner_replaced"
    ESCALATED = "escalated"


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that changes nothing of the text. `model` and `max_tokens` are of another one that answers now."""

    kind: NoticeKind
    model: str = ""
    max_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Ended:
    """The engine has ended and all of its text is in the log; the answer is not stored yet. Not for clients."""

    reason: FinishReason
    usage: TokenUsage


@dataclass(frozen=True, slots=True)
class Completed:
    """The answer is complete; `message` is None when the generation belongs to no conversation."""

    message: Message | None


@dataclass(frozen=True, slots=True)
class Failed:
    """There will be no more."""

    error: ErrorSummary
    message: Message | None


Event = Started | Delta | Retracted | Notice | Ended | Completed | Failed


@dataclass(frozen=True, slots=True)
class Entry:
    """An event, its position, and the epoch of who appended it; of merged entries, the position of the last."""

    seq: int
    event: Event
    epoch: int = 1


class LogMovedError(Exception):
    """Another server has taken the generation over: its log goes on elsewhere."""


class GenerationLog:
    """The events of one generation. Not for use from other threads.

    Events are appended, sealed into entries, and published to the readers. Without `on_append` all three happen at
    once. With it, whoever is told seals them, stores them, and publishes them when they are stored.

    Args:
        generation_id: Whose log it is.
        epoch: That of who appends.
        entries: What the log has from before; published.
        on_append: Called when there is something to seal.
        on_move: Called when another server appends to it.
    """

    def __init__(
        self,
        generation_id: str,
        *,
        epoch: int = 1,
        entries: Sequence[Entry] = (),
        on_append: Callable[[GenerationLog], None] | None = None,
        on_move: Callable[[], None] | None = None,
    ) -> None:
        self.generation_id = generation_id
        self.epoch = epoch
        self.stored = len(entries)
        """Number of entries that are stored outside of this process."""
        self._entries = list(entries)
        self._published = len(entries)
        self._on_append = on_append
        self._on_move = on_move
        self._pending: list[Event] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._closed = bool(entries) and isinstance(entries[-1].event, Completed | Failed)
        self._ended = any(isinstance(entry.event, Ended) for entry in entries)
        self._moved = False
        self._skipped = 0

    @property
    def closed(self) -> bool:
        """True once the terminal event is there."""
        return self._closed

    @property
    def moved(self) -> bool:
        """True once another server appends to it."""
        return self._moved

    @property
    def ended(self) -> bool:
        """True once nothing more will come but the terminal event."""
        return self._ended or self._closed

    @property
    def shown(self) -> bool:
        """True once readers can see something of it."""
        return self._published > 0

    @property
    def entries(self) -> Sequence[Entry]:
        """All that is sealed."""
        return self._entries

    @property
    def end_seq(self) -> int:
        """The position of the terminal event: where it is, or where it comes if it is the next one."""
        self.seal()
        return self._last_seq if self._closed else self._next_seq

    def skip(self, count: int) -> None:
        """Leave positions free before the next event: an earlier owner may have shown events there."""
        self._skipped = count

    def append(self, event: Event) -> None:
        """Add an event. Nothing may follow a terminal event; what comes after the log has moved is dropped."""
        if self._moved:
            return
        if self._closed:
            raise ValueError("the generation has ended")
        self._pending.append(event)
        self._closed = isinstance(event, Completed | Failed)
        self._ended = self._ended or isinstance(event, Ended)
        if self._on_append is not None:
            self._on_append(self)
        else:
            self.seal()
            self.publish(len(self._entries))

    def seal(self) -> None:
        """Make entries of what was appended; neighbouring text becomes one."""
        for event in _merged(self._pending):
            self._entries.append(Entry(self._next_seq, event, self.epoch))
            self._skipped = 0
        self._pending.clear()

    def extend(self, entries: Iterable[Entry]) -> None:
        """Add and publish entries that another process sealed; those that are there already are passed over."""
        for entry in entries:
            if entry.seq > self._last_seq:
                self._entries.append(entry)
                self._closed = self._closed or isinstance(entry.event, Completed | Failed)
        self.stored = len(self._entries)
        self.publish(self.stored)

    def publish(self, count: int) -> None:
        """Let readers see the first `count` entries."""
        if count > self._published:
            self._published = count
            self._wake()

    def move(self) -> None:
        """Say that another server appends now. What was not published never will be."""
        if self._moved:
            return
        self._moved = True
        self._pending.clear()
        del self._entries[self._published :]
        self._wake()
        if self._on_move is not None:
            self._on_move()

    async def read(self, after_seq: int) -> list[Entry]:
        """Wait until there is something for clients after `after_seq` and return all of it, neighbouring text merged.

        Empty when the log is closed and nothing comes after `after_seq`.

        Raises:
            LogMovedError: All that this log has was read, and there is more elsewhere.
        """
        while True:
            first = bisect_right(self._entries, after_seq, 0, self._published, key=_seq)
            if first < self._published and (found := self._merged_from(first)):
                return found
            if self._moved:
                raise LogMovedError
            if self._closed and self._published == len(self._entries) and not self._pending:
                return []
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            finally:
                if waiter.cancelled() and waiter in self._waiters:
                    self._waiters.remove(waiter)

    def _merged_from(self, first: int) -> list[Entry]:
        return merge(self._entries[first : self._published], before=islice(self._entries, first))

    @property
    def _last_seq(self) -> int:
        return self._entries[-1].seq if self._entries else 0

    @property
    def _next_seq(self) -> int:
        return self._last_seq + self._skipped + 1

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()


def merge(entries: Sequence[Entry], *, before: Iterable[Entry] = ()) -> list[Entry]:
    """What clients get of entries when they have those `before`: runs of text as one delta, and nothing of what is
    taken back again."""
    for entry in entries:
        if isinstance(entry.event, Retracted):
            entries = _settled(entries, _length(before))
            break
    merged: list[Entry] = []
    texts: list[str] = []
    last: Entry | None = None
    for entry in entries:
        if isinstance(entry.event, Delta):
            if entry.event.text:
                texts.append(entry.event.text)
                last = entry
        elif not isinstance(entry.event, Ended):
            if last is not None:
                merged.append(_shown(last, texts))
                texts, last = [], None
            merged.append(entry)
    if last is not None:
        merged.append(_shown(last, texts))
    return merged


def _settled(entries: Sequence[Entry], begin: int) -> list[Entry]:
    """Entries that come after `begin` code points of text, with retractions of text that is in them carried out."""
    settled: list[Entry] = []
    first = 0
    for entry in entries:
        event = entry.event
        texts = [e.event.text if isinstance(e.event, Delta) else "" for e in settled[first:]]
        if isinstance(event, Retracted) and begin <= event.start < event.end <= begin + sum(map(len, texts)):
            changed = replaced(texts, event.start - begin, event.end - begin, event.replacement)
            for index, (text, was) in enumerate(zip(changed, texts, strict=True), first):
                if text != was:
                    settled[index] = replace(settled[index], event=Delta(text))
            continue
        settled.append(entry)
        if isinstance(event, Retracted):
            begin += _length(settled[first:])
            first = len(settled)
    seen = [e for e in settled if not isinstance(e.event, Ended) and (not isinstance(e.event, Delta) or e.event.text)]
    # Who has these has dealt with all.
    return [*seen[:-1], replace(seen[-1], seq=entries[-1].seq, epoch=entries[-1].epoch)] if seen else []


def _length(entries: Iterable[Entry]) -> int:
    """Code points of the text that entries add."""
    events = [entry.event for entry in entries]
    added = sum(len(event.text) for event in events if isinstance(event, Delta))
    return added + sum(len(e.replacement) - e.end + e.start for e in events if isinstance(e, Retracted))


def _shown(last: Entry, texts: Sequence[str]) -> Entry:
    return last if len(texts) == 1 else replace(last, event=Delta("".join(texts)))


def _merged(events: Sequence[Event]) -> Iterable[Event]:
    deltas: list[Delta] = []
    for event in events:
        if isinstance(event, Delta):
            deltas.append(event)
            continue
        if deltas:
            yield _one(deltas)
            deltas = []
        yield event
    if deltas:
        yield _one(deltas)


def _one(deltas: Sequence[Delta]) -> Delta:
    if len(deltas) == 1:
        return deltas[0]
    text = "".join(delta.text for delta in deltas)
    tokens = sum(delta.written.tokens for delta in deltas)
    if not any(delta.written.pieces for delta in deltas):
        return Delta(text, Written((), tokens))
    pieces = (piece for d in deltas for piece in d.written.pieces or (GeneratedPiece(d.text),))
    return Delta(text, Written(join_pieces(pieces), tokens, tuple(r for d in deltas for r in d.written.replaced)))


def _seq(entry: Entry) -> int:
    return entry.seq
