"""What a model has written, token by token: what it is continued from when its engine is lost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from services.conversation.chat_model import GeneratedPiece
from services.conversation.generation_log import AS_SHOWN, Written
from services.conversation.written_pieces import join_pieces


@dataclass(slots=True)
class _Piece:
    text: str
    token_ids: tuple[int, ...]
    tokens: int


class Transcript:
    """Pieces of text, in order, with the ids of exactly the tokens behind each, where these are known."""

    def __init__(self) -> None:
        self.tokens = 0
        """Tokens that were generated."""
        self._pieces: list[_Piece] = []
        self._carried: list[int] = []
        """Ids of tokens whose text comes with a later token, as when one ends in the middle of a character."""
        self._carried_tokens = 0
        self._ids_are_known = True
        self._taken = 0
        """Number of pieces that were taken."""

    def write(self, text: str, token_ids: Sequence[int], tokens: int) -> None:
        """Add what the engine gave."""
        self.tokens += tokens
        self._carried_tokens += tokens
        if len(token_ids) != tokens:
            self._ids_are_known = False
        else:
            self._carried.extend(token_ids)
        if not text:
            return
        ids = tuple(self._carried) if self._ids_are_known else ()
        self._pieces.append(_Piece(text, ids, self._carried_tokens))
        self._carried.clear()
        self._carried_tokens = 0
        self._ids_are_known = True

    def take(self, length: int) -> Written:
        """The next `length` code points, which were not taken before; `AS_SHOWN` but for the tokens without ids.

        A piece that is cut keeps no ids; a token of which a part is taken counts as taken.
        """
        taken: list[GeneratedPiece] = []
        tokens = 0
        while length and self._taken < len(self._pieces):
            piece = self._pieces[self._taken]
            if len(piece.text) > length:
                self._pieces[self._taken : self._taken + 1] = _cut(piece, length)
                piece = self._pieces[self._taken]
            self._taken += 1
            length -= len(piece.text)
            tokens += piece.tokens
            taken.append(GeneratedPiece(piece.text, piece.token_ids))
        if not any(piece.token_ids for piece in taken):
            return Written((), tokens) if tokens else AS_SHOWN
        return Written(join_pieces(taken), tokens)

    def continuation(self) -> tuple[GeneratedPiece, ...]:
        """All that was written, as an engine that continues it needs it."""
        return join_pieces(GeneratedPiece(piece.text, piece.token_ids) for piece in self._pieces)

    def cut(self) -> int:
        """Forget tokens that gave no text yet, for who continues generates them again. Returns how many are left."""
        self.tokens -= self._carried_tokens
        self._carried.clear()
        self._carried_tokens = 0
        self._ids_are_known = True
        return self.tokens


def _cut(piece: _Piece, length: int) -> list[_Piece]:
    """Two pieces. Where a piece of several tokens is cut, their number on each side can only be estimated."""
    tokens = math.ceil(piece.tokens * length / len(piece.text))
    return [_Piece(piece.text[:length], (), tokens), _Piece(piece.text[length:], (), piece.tokens - tokens)]
