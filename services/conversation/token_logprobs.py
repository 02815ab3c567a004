"""The log-probabilities of an answer's tokens, as far as the answer itself is shown.

A log-probability names its token, so it says as much as the text does: it must not go ahead of what moderation has
cleared, and must not say what moderation has replaced. A token is given out only when its bytes are exactly the bytes
of the answer at its place, and all of that place is shown as it was written. What cannot be placed so, such as the
tokens of a stop string or of the end of the answer, is never given out.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from services.conversation.chat_model import TokenLogprob


@dataclass(frozen=True, slots=True)
class _Unplaced:
    logprob: TokenLogprob
    data: bytes
    earliest: int
    """It stands behind no text before this."""


@dataclass(frozen=True, slots=True)
class _Placed:
    logprob: TokenLogprob
    start: int
    end: int


class TokenLogprobs:
    """Tokens come with the text that they are behind, or before it; they are taken when that text is shown.

    `write`, `clear` and `replace` count in code points of the answer as the model wrote it, as moderation does. Inside
    it is bytes, for a token may be part of a character.
    """

    def __init__(self) -> None:
        self._text = bytearray()
        self._starts = array("Q", (0,))
        """Where each code point of the text begins, and the end."""
        self._unplaced: deque[_Unplaced] = deque()
        self._placed: deque[_Placed] = deque()
        self._cursor = 0
        """End of the last token that was placed."""
        self._clear = 0
        self._replaced: list[tuple[int, int]] = []

    def add(self, logprobs: Iterable[TokenLogprob]) -> None:
        """Tokens that are behind the text which comes next, and behind none before it."""
        earliest = len(self._text)
        self._unplaced.extend(
            _Unplaced(logprob, logprob.data or logprob.token.encode(errors="replace"), earliest) for logprob in logprobs
        )

    def write(self, text: str) -> None:
        """More of the answer."""
        for character in text:
            self._text += character.encode(errors="replace")
            self._starts.append(len(self._text))
        self._place()

    def restart(self) -> None:
        """Forget tokens whose text has not come: who goes on with the answer generates them again."""
        self._unplaced.clear()

    def clear(self, watermark: int) -> None:
        """All before `watermark` is shown."""
        self._clear = max(self._clear, self._offset(watermark))

    def replace(self, start: int, end: int) -> None:
        """This range is not shown as it was written."""
        self._replaced.append((self._offset(start), self._offset(end)))

    def take(self) -> tuple[TokenLogprob, ...]:
        """The tokens that are shown and were not taken before."""
        taken: list[TokenLogprob] = []
        while self._placed and self._placed[0].end <= self._clear:
            token = self._placed.popleft()
            if not any(start < token.end and token.start < end for start, end in self._replaced):
                taken.append(token.logprob)
        return tuple(taken)

    def _offset(self, position: int) -> int:
        return self._starts[min(position, len(self._starts) - 1)]

    def _place(self) -> None:
        while self._unplaced:
            token = self._unplaced[0]
            start = max(self._cursor, token.earliest)
            data = token.data
            if start == 0 and self._text and data[:1] == b" " and self._text[:1] != b" ":
                # Some vocabularies write the first word with a space in front that is no part of the text.
                data = data[1:]
            there = self._text[start : start + len(data)]
            if there == data and data:
                self._placed.append(_Placed(token.logprob, start, start + len(data)))
                self._cursor = start + len(data)
            elif len(there) < len(data) and data.startswith(there):
                # The rest of its text has not come yet.
                return
            self._unplaced.popleft()
