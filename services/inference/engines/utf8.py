"""Characters out of the bytes of tokens, where a token may end in the middle of a character."""

from __future__ import annotations

import codecs


class Utf8Assembler:
    """Fed with bytes piece by piece, gives back whole characters.

    Bytes that can never become a character come out as U+FFFD; bytes that may still become one are held back.
    """

    __slots__ = ("_decoder",)

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, piece: bytes) -> str:
        """Add bytes; the characters that became complete."""
        return self._decoder.decode(piece)
