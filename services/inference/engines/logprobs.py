"""Log-probabilities in OpenAI's shape, which llama.cpp has too, kept until their tokens are told."""

from __future__ import annotations

from collections import deque
from typing import Any

from services.inference.model import Delta, GenerationRequest, TokenLogprob

_NO_CHANCE = -1e4


class Logprobs:
    """Fed with what a server says of its tokens, gives back what belongs to those that are told.

    Servers are silent of some: of those that end an answer, or a character, or that make a call. Such a token is
    taken to be as likely as the others were on average, so that it changes no mean; it has no bytes and no
    alternatives.
    """

    __slots__ = ("_known", "_request", "_sum", "_waiting")

    def __init__(self, request: GenerationRequest) -> None:
        self._request = request
        self._waiting: deque[TokenLogprob] = deque()
        self._known = 0
        self._sum = 0.0

    def take(self, said: list[dict[str, Any]], token_count: int) -> None:
        """Add what is said of the next tokens."""
        told = [self._read(each) for each in said]
        self._known += len(told)
        self._sum += sum(each.logprob for each in told)
        # Those that a server is silent of come before the one that completes their character.
        self._waiting.extend([self._unknown()] * (token_count - len(told)))
        self._waiting.extend(told)

    def complete(self, delta: Delta) -> None:
        """Give a delta what was asked for of its tokens."""
        waiting = self._waiting
        told = [waiting.popleft() if waiting else self._unknown() for _ in range(delta.token_count)]
        if told and self._request.top_logprobs is not None:
            delta.logprobs = told
        if told and self._request.confidence:
            delta.logprob_sum = sum(each.logprob for each in told)

    def _unknown(self) -> TokenLogprob:
        return TokenLogprob("", b"", self._sum / self._known if self._known else 0.0)

    def _read(self, said: dict[str, Any]) -> TokenLogprob:
        top = sorted(map(_token, (said.get("top_logprobs") or ())), key=lambda each: -each[2])[
            : self._request.top_logprobs or 0
        ]
        return TokenLogprob(*_token(said), tuple(TokenLogprob(*each) for each in top))


def _token(said: dict[str, Any]) -> tuple[str, bytes, float]:
    spelled = said.get("bytes")
    data = str(said["token"]).encode() if spelled is None else bytes(spelled)
    # A token of no chance has an infinite one, which no JSON can hold.
    logprob = _NO_CHANCE if said["logprob"] is None else float(said["logprob"])
    return data.decode(errors="ignore"), data, max(_NO_CHANCE, min(0.0, logprob))
