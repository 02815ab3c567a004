"""An answer on one engine: what the engine says reaches the answer until that engine is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from services.conversation.chat_model import FinishReason, TokenUsage
from services.conversation.engine_model import EngineEnd, TokenDetails
from services.conversation.route_model import Route
from services.runtime.errors import DomainError


class Writing(Protocol):
    """Who an engine writes for."""

    def details(self, details: TokenDetails) -> None:
        """More of what was asked for beside the text."""

    def written(self, text: str, token_ids: Sequence[int], tokens: int) -> None:
        """More text, and the tokens behind it."""

    def engine_ended(self, leg: Leg, end: EngineEnd) -> None:
        """The engine has ended."""

    def mismatched(self) -> None:
        """An engine that repeats the answer says something else than was shown."""


class Leg:
    """Hears of one engine until it is lost or forgotten.

    Args:
        answer: Who is written for.
        stream_id: Names the generation at the replica.
        route: Where it runs.
        tokens_before: Tokens of the answer that were generated before, and are part of this engine's prompt.
        to_repeat: What the engine must say again before it says something new.
    """

    def __init__(self, answer: Writing, *, stream_id: str, route: Route, tokens_before: int, to_repeat: str) -> None:
        self.stream_id = stream_id
        self.route = route
        self.tokens_before = tokens_before
        self.spoke = False
        self.lost: DomainError | None = None
        self._answer: Writing | None = answer
        self._to_repeat = to_repeat

    def on_details(self, details: TokenDetails) -> None:
        """More of what was asked for beside the text."""
        if self._answer is not None and not self._to_repeat:
            self.spoke = True
            self._answer.details(details)

    def on_delta(self, text: str, token_ids: Sequence[int], tokens: int) -> None:
        """More text."""
        answer = self._answer
        if answer is None:
            return
        self.spoke = True
        if self._to_repeat:
            count = min(len(text), len(self._to_repeat))
            if text[:count] != self._to_repeat[:count]:
                self.forget()
                answer.mismatched()
                return
            self._to_repeat = self._to_repeat[count:]
            text, token_ids, tokens = text[count:], (), 0 if self._to_repeat else tokens
        answer.written(text, token_ids, tokens)

    def on_end(self, end: EngineEnd) -> None:
        """The engine has ended."""
        answer = self._answer
        if answer is None:
            return
        if self._to_repeat and end.error is None and end.reason in (FinishReason.STOP, FinishReason.LENGTH):
            self.forget()
            answer.mismatched()
        else:
            # One that did not come to say all again has not counted all either.
            answer.engine_ended(self, replace(end, usage=TokenUsage()) if self._to_repeat else end)

    def forget(self) -> None:
        """Hear nothing more."""
        self._answer = None
