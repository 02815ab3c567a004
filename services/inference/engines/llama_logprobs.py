"""Log-probabilities as llama.cpp streams them, one for each token."""

from __future__ import annotations

from collections import deque
from typing import Any

from services.inference.model import TokenLogprob


class LlamaLogprobs:
    """Fed with events, gives back what belongs to the tokens that are told.

    llama.cpp says nothing of tokens that end in the middle of a character, nor of the one that ends an answer. Such a
    token is taken to be as likely as the others were on average, so that it changes no mean; it has no bytes and no
    alternatives.
    """

    __slots__ = ("_known", "_sum", "_top", "_waiting")

    def __init__(self, top: int) -> None:
        self._top = top
        self._waiting: deque[TokenLogprob] = deque()
        self._known = 0
        self._sum = 0.0

    def take(self, probabilities: list[dict[str, Any]], token_count: int) -> None:
        """Add what an event says of its tokens."""
        told = [self._read(each) for each in probabilities[:token_count]]
        self._known += len(told)
        self._sum += sum(each.logprob for each in told)
        unknown = TokenLogprob("", b"", self._sum / self._known if self._known else 0.0)
        # Those that llama.cpp is silent of come before the one that completes their character.
        self._waiting.extend([unknown] * (token_count - len(told)))
        self._waiting.extend(told)

    def pop(self, token_count: int) -> list[TokenLogprob]:
        """Those of the next tokens."""
        return [self._waiting.popleft() for _ in range(min(token_count, len(self._waiting)))]

    def _read(self, said: dict[str, Any]) -> TokenLogprob:
        top = said.get("top_logprobs", ())[: self._top]
        return TokenLogprob(*_token(said), tuple(TokenLogprob(*_token(each)) for each in top))


def _token(said: dict[str, Any]) -> tuple[str, bytes, float]:
    data = bytes(said["bytes"])
    # A token of no chance has an infinite one, which no JSON can hold.
    return data.decode(errors="ignore"), data, min(0.0, float(said["logprob"] if said["logprob"] is not None else -1e4))
