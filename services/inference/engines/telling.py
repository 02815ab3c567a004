"""What of an answer may be told now, and which tokens are behind it.

Whoever continues an answer elsewhere has its text, and must know how many tokens gave it and, where they can be known,
which. So tokens are told together with their text: one whose text is held back is not counted yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from services.inference.engines.stop_strings import StopMatcher

Told = tuple[str, list[int], int]
"""Text, the ids of exactly its tokens or none, and the number of tokens. A tuple, for there is one per token."""

NOTHING: Told = ("", [], 0)


def join(first: Told, second: Told) -> Told:
    """Two parts that follow each other. All ids or none: a reader could not tell which one is missing."""
    return first[0] + second[0], first[1] + second[1] if _exact(first) and _exact(second) else [], first[2] + second[2]


class Telling:
    """Fed with the tokens of an answer, gives back what may be told.

    Text that might begin a stop string waits, and so do tokens that complete no character. A token of which a part has
    been told is told: it is counted with its first part, and there are no ids for the parts.
    """

    __slots__ = ("_carried", "_matcher", "_waiting", "stopped")

    def __init__(self, stops: Sequence[str], *, after: str = "") -> None:
        """`after` is what was told of the same answer before."""
        self._matcher = StopMatcher(stops, after=after) if stops else None
        self._waiting: deque[_Tokens] = deque()
        # Text of tokens that are counted already, for the next part: nothing is told without a token.
        self._carried = ""
        self.stopped = False
        """A stop string was met. What is left comes with `end`."""

    def take(self, text: str, token_ids: list[int], token_count: int) -> Told:
        """Add tokens that together gave a text; what may be told now. Without a token: the rest of one told before."""
        if self._matcher is None and text and token_count and not self._waiting and not self._carried:
            return text, token_ids, token_count
        self._waiting.append(_Tokens(len(text), token_ids, token_count))
        if self._matcher is not None:
            text = self._matcher.feed(text)
            self.stopped = self._matcher.stopped
        told = self._tell(text)
        if told[2]:
            return told
        self._carried = told[0]
        return NOTHING

    def end(self) -> Told:
        """The answer is over: whatever is left. Tokens of a stop string are counted, too."""
        text = ""
        if self._matcher is not None:
            text = self._matcher.flush()
            self.stopped = self._matcher.stopped
        told = self._tell(text)
        whole = _exact(told)
        ids, count = told[1], told[2]
        for tokens in self._waiting:
            whole = whole and not tokens.length and len(tokens.ids) == tokens.count
            ids = ids + tokens.ids
            count += tokens.count
        self._waiting.clear()
        return told[0], ids if whole else [], count

    def _tell(self, text: str) -> Told:
        left = len(text)
        ids: list[int] = []
        count = 0
        whole = not self._carried
        while left:
            tokens = self._waiting[0]
            count += tokens.count
            ids += tokens.ids
            whole = whole and tokens.count > 0 and len(tokens.ids) == tokens.count and tokens.length <= left
            if tokens.length <= left:
                left -= tokens.length
                self._waiting.popleft()
            else:
                tokens.begin(left)
                left = 0
        text, self._carried = self._carried + text, ""
        return text, ids if whole else [], count


class _Tokens:
    """Tokens that wait, and the length of the text that they gave."""

    __slots__ = ("count", "ids", "length")

    def __init__(self, length: int, ids: list[int], count: int) -> None:
        self.length = length
        self.ids = ids
        self.count = count

    def begin(self, length: int) -> None:
        """So much of the text has been told, and with it the tokens."""
        self.length -= length
        self.ids = []
        self.count = 0


def _exact(told: Told) -> bool:
    text, ids, count = told
    return len(ids) == count and (count > 0 or not text)
