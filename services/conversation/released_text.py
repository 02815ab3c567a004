"""What of an answer has been shown, while moderation clears it and takes some of it back.

Moderation speaks of the text as the model wrote it; clients hold the text as it was shown to them, with replacements
in it. This keeps the two apart and maps one to the other. Offsets are Unicode code points.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Sequence
from dataclasses import replace

from services.conversation.chat_model import GeneratedPiece
from services.conversation.generation_log import AS_SHOWN, Delta, Entry, Replacement, Retracted, Written
from services.conversation.transcript import Transcript


class ReleasedText:
    """The answer as written, as cleared, and as shown."""

    def __init__(self) -> None:
        self.transcript = Transcript()
        self._written: list[str] = []
        self._waiting = ""
        """Written text after `_cleared`."""
        self._cleared = 0
        self._shown: list[str] = []
        self._replacements: list[Replacement] = []

    def write(self, text: str, token_ids: Sequence[int] = (), tokens: int = 0) -> None:
        """Add what the model wrote: text, and the tokens behind it."""
        self.transcript.write(text, token_ids, tokens)
        if text:
            self._written.append(text)
            self._waiting += text

    @property
    def written(self) -> str:
        """The answer as the model wrote it."""
        return "".join(self._written)

    @property
    def shown(self) -> str:
        """The answer as it stands before the reader."""
        return "".join(self._shown)

    @property
    def cleared(self) -> int:
        """Up to where the written text was shown, or replaced."""
        return self._cleared

    def clear(self, watermark: int) -> Delta | None:
        """Show what lies before `watermark`; None when that is nothing new."""
        if watermark <= self._cleared:
            return None
        count = min(watermark - self._cleared, len(self._waiting))
        text = self._with_replacements(self._cleared, self._cleared + count)
        raw, self._waiting = self._waiting[:count], self._waiting[count:]
        self._cleared += count
        written = _as_written(raw, text, self.transcript.take(count))
        replaced = tuple(r for r in self._replacements if self._cleared - count <= r.start < self._cleared)
        if replaced:
            written = replace(written, replaced=replaced)
        if not text and not written.pieces:
            return None
        self._shown.append(text)
        return Delta(text, written)

    def retract(self, start: int, end: int, text: str, category: str) -> Retracted | None:
        """Put `text` in the place of a written range.

        Returns what clients must do about it; None when nothing of the range was shown, for then it comes with a later
        delta. A range that touches earlier replacements takes them in.
        """
        replacement = Replacement(start, end, text, category)
        if replacement in self._replacements:
            # A checker that begins again at the start of the answer finds the same again.
            return None
        merged = [r for r in self._replacements if r.start < end and start < r.end]
        start = min([start, *(r.start for r in merged)])
        end = max([end, *(r.end for r in merged)])
        shown_start = self._to_shown(start)
        shown_end = self._to_shown(end)
        self._replacements = [r for r in self._replacements if r not in merged]
        insort(self._replacements, Replacement(start, end, text, category))
        if start >= self._cleared:
            return None
        unseen = AS_SHOWN
        if end > self._cleared:
            # The rest of the range was never shown; its replacement is shown with the part that was.
            count = end - self._cleared
            raw, self._waiting = self._waiting[:count], self._waiting[count:]
            self._cleared += count
            unseen = _as_written(raw, "", self.transcript.take(len(raw)))
        shown = self.shown
        self._shown = [shown[:shown_start] + text + shown[shown_end:]]
        return Retracted(shown_start, shown_end, text, category, start, end, unseen)

    def restore(self, event: Delta | Retracted) -> None:
        """Take over what another server has shown, from its log."""
        pieces = event.written.pieces
        if isinstance(event, Delta):
            pieces = pieces or (GeneratedPiece(event.text),)
        for piece in pieces:
            self.write(piece.text, piece.token_ids, len(piece.token_ids))
        self.transcript.take(sum(len(piece.text) for piece in pieces))
        self.transcript.tokens += event.written.tokens - sum(len(piece.token_ids) for piece in pieces)
        self._waiting = ""
        self._cleared += sum(len(piece.text) for piece in pieces)
        if isinstance(event, Delta):
            self._shown.append(event.text)
            self._replacements.extend(event.written.replaced)
            return
        shown = self.shown
        self._shown = [shown[: event.start] + event.replacement + shown[event.end :]]
        start, end = event.written_start, event.written_end
        self._replacements = [r for r in self._replacements if not (r.start < end and start < r.end)]
        insort(self._replacements, Replacement(start, end, event.replacement, event.category))

    def _to_shown(self, written_offset: int) -> int:
        """Where a written offset stands in the shown text; inside of a replacement, its end."""
        offset = min(written_offset, self._cleared)
        shown = offset
        for r in self._replacements:
            if r.start >= offset:
                break
            shown += len(r.text) - (min(r.end, offset) - r.start)
        return shown

    def _with_replacements(self, start: int, end: int) -> str:
        """The waiting text from `start`, which is where it begins, to `end`, as it is to be shown."""
        parts: list[str] = []
        position = start
        for r in self._replacements:
            if r.end <= position or r.start >= end:
                continue
            if r.start >= position:
                parts.append(self._waiting[position - start : r.start - start])
                parts.append(r.text)
            position = min(r.end, end)
        parts.append(self._waiting[position - start : end - start])
        return "".join(parts)


def shown_text(entries: Iterable[Entry]) -> str:
    """The answer as the events of its log leave it."""
    text = ReleasedText()
    for entry in entries:
        if isinstance(entry.event, Delta | Retracted):
            text.restore(entry.event)
    return text.shown


def _as_written(raw: str, shown: str, written: Written) -> Written:
    """What the log must say of what the model wrote, where the shown text does not say it."""
    if written.pieces or raw == shown:
        return written
    return Written((GeneratedPiece(raw),), written.tokens)
