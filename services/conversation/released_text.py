"""What of an answer has been shown, while moderation clears it and takes some of it back.

Moderation speaks of the text as the model wrote it; clients hold the text as it was shown to them, with replacements
in it. This keeps the two apart and maps one to the other. Offsets are Unicode code points.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass

from services.conversation.generation_log import Delta, Retracted


@dataclass(frozen=True, slots=True, order=True)
class Replacement:
    """A range of the text as written, and what stands there instead."""

    start: int
    end: int
    text: str
    category: str


class ReleasedText:
    """The answer as written, as cleared, and as shown."""

    def __init__(self) -> None:
        self._written: list[str] = []
        self._waiting = ""
        """Written text after `_cleared`."""
        self._cleared = 0
        self._shown: list[str] = []
        self._replacements: list[Replacement] = []

    def write(self, text: str) -> None:
        """Add what the model wrote."""
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

    def clear(self, watermark: int) -> Delta | None:
        """Show what lies before `watermark`; None when that is nothing new."""
        if watermark <= self._cleared:
            return None
        count = min(watermark - self._cleared, len(self._waiting))
        text = self._with_replacements(self._cleared, self._cleared + count)
        self._waiting = self._waiting[count:]
        self._cleared += count
        if not text:
            return None
        self._shown.append(text)
        return Delta(text)

    def retract(self, start: int, end: int, text: str, category: str) -> Retracted | None:
        """Put `text` in the place of a written range.

        Returns what clients must do about it; None when nothing of the range was shown, for then it comes with a later
        delta. A range that touches earlier replacements takes them in.
        """
        merged = [r for r in self._replacements if r.start < end and start < r.end]
        start = min([start, *(r.start for r in merged)])
        end = max([end, *(r.end for r in merged)])
        shown_start = self._to_shown(start)
        shown_end = self._to_shown(end)
        self._replacements = [r for r in self._replacements if r not in merged]
        insort(self._replacements, Replacement(start, end, text, category))
        if start >= self._cleared:
            return None
        if end > self._cleared:
            # The rest of the range was never shown; its replacement is shown with the part that was.
            self._waiting = self._waiting[end - self._cleared :]
            self._cleared = end
        shown = self.shown
        self._shown = [shown[:shown_start] + text + shown[shown_end:]]
        return Retracted(shown_start, shown_end, text, category)

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
