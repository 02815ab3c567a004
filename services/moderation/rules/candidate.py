"""What a pattern found and a check decides about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Span = tuple[int, int]
"""`[start, end)` in code points of a candidate's text. An empty one says that nothing begins before it."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A match of a pattern, with the characters on both sides of it ("" at the ends of the text).

    One character is all that a check may see of what is around: more of it is not kept while a text streams.
    """

    text: str
    before: str = ""
    after: str = ""

    @property
    def whole(self) -> Span:
        return 0, len(self.text)


Check = Callable[[Candidate], Span | None]
"""Says which part of a candidate is what is looked for; None when nothing begins where it begins.

Checks are pure, and bounded by the length of the candidate. One that is asked about everything that may begin inside
of a candidate, too, says with an empty span from where to go on: so nothing is looked at again and again.
"""
