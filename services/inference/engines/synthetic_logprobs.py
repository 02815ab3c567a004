"""How sure the synthetic engine is of its tokens: a function of the token and its place, around a mean."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from services.inference.engines import synthetic_text
from services.inference.model import TokenLogprob

_GOLDEN = 0.618_033_988_749_895
_STEP = 1e-3


def token_logprob(mean: float, token_id: int, place: int) -> float:
    """From half of the mean to one and a half of it, evenly."""
    return mean * (0.5 + ((token_id + place) * _GOLDEN) % 1.0)


class SyntheticLogprobs:
    """Fed with the tokens of an answer, gives back the log-probabilities of those that are told."""

    __slots__ = ("_mean", "_top", "_waiting")

    def __init__(self, *, mean: float, top: int | None) -> None:
        self._mean = mean
        self._top = top
        self._waiting: deque[tuple[int, bytes, float]] = deque()

    def take(self, token_id: int, piece: bytes, place: int) -> None:
        """Add a token."""
        self._waiting.append((token_id, piece, token_logprob(self._mean, token_id, place)))

    def pop(self, token_count: int) -> tuple[float, Sequence[TokenLogprob]]:
        """The sum of the next tokens', and each where they were asked for."""
        told = [self._waiting.popleft() for _ in range(token_count)]
        each = () if self._top is None else [self._whole(*token) for token in told]
        return sum(logprob for _, _, logprob in told), each

    def _whole(self, token_id: int, piece: bytes, logprob: float) -> TokenLogprob:
        top: list[TokenLogprob] = []
        if self._top:
            top.append(_one(piece, logprob))
            rest = -math.expm1(logprob)
            for number, other in enumerate(synthetic_text.other_tokens(token_id, self._top - 1), start=1):
                share = math.log(rest / 2**number) if rest > 0 else logprob
                # Never likelier than the token itself, and each less likely than the one before it.
                top.append(_one(other, min(logprob, share) - _STEP * number))
        return TokenLogprob(*_fields(piece, logprob), tuple(top))


def _one(piece: bytes, logprob: float) -> TokenLogprob:
    return TokenLogprob(*_fields(piece, logprob))


def _fields(piece: bytes, logprob: float) -> tuple[str, bytes, float]:
    return piece.decode(errors="ignore"), piece, logprob
