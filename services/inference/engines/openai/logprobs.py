"""Log-probabilities as OpenAI's API streams them, kept until their tokens are told."""

from __future__ import annotations

from collections import deque
from typing import Any

from services.inference.model import TokenLogprob

_NO_CHANCE = -1e4


class Logprobs:
    """Fed with chunks, gives back what belongs to the tokens that are told.

    Servers are silent of some tokens: of those that end an answer, or a character, or that make a call. Such a token is
    taken to be as likely as the others were on average, so that it changes no mean; it has no bytes and no
    alternatives.
    """

    __slots__ = ("_known", "_sum", "_top", "_waiting")

    def __init__(self, top: int) -> None:
        self._top = top
        self._waiting: deque[TokenLogprob] = deque()
        self._known = 0
        self._sum = 0.0

    def take(self, said: list[dict[str, Any]], token_count: int) -> None:
        """Add what a chunk says of its tokens."""
        told = [self._read(each) for each in said]
        self._known += len(told)
        self._sum += sum(each.logprob for each in told)
        # Those that a server is silent of come before the one that completes their character.
        self._waiting.extend([self._unknown()] * (token_count - len(told)))
        self._waiting.extend(told)

    def pop(self, token_count: int) -> list[TokenLogprob]:
        """Those of the next tokens."""
        return [self._waiting.popleft() if self._waiting else self._unknown() for _ in range(token_count)]

    def _unknown(self) -> TokenLogprob:
        return TokenLogprob("", b"", self._sum / self._known if self._known else 0.0)

    def _read(self, said: dict[str, Any]) -> TokenLogprob:
        top = sorted(map(_token, (said.get("top_logprobs") or ())), key=lambda each: -each[2])[: self._top]
        return TokenLogprob(*_token(said), tuple(TokenLogprob(*each) for each in top))


def _token(said: dict[str, Any]) -> tuple[str, bytes, float]:
    spelled = said.get("bytes")
    data = str(said["token"]).encode() if spelled is None else bytes(spelled)
    # A token of no chance has an infinite one, which no JSON can hold.
    logprob = _NO_CHANCE if said["logprob"] is None else float(said["logprob"])
    return data.decode(errors="ignore"), data, max(_NO_CHANCE, min(0.0, logprob))
