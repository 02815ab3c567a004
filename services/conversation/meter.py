"""What an answer takes: tokens and times, over all engines that worked on it."""

from __future__ import annotations

from services.conversation.chat_model import TokenUsage
from services.conversation.engine_model import EngineEnd


class Meter:
    """Counts as engines count, and estimates where none has come to say."""

    def __init__(self) -> None:
        self.queue_ms = 0.0
        """How long the generation waited at its replicas."""
        self.first_token_ms = 0.0
        """How long the replica that gave the first token took for it."""
        self._prompt_tokens = 0
        self._cached_tokens = 0
        self._completion_tokens: int | None = None

    def begin(self, prompt_tokens: int) -> None:
        """An engine gets a prompt of about so many tokens."""
        self._prompt_tokens = self._prompt_tokens or prompt_tokens

    def end(self, end: EngineEnd, *, tokens_before: int) -> None:
        """An engine has ended; `tokens_before` of its prompt are tokens of the answer."""
        self.queue_ms += end.queue_ms
        self.first_token_ms = self.first_token_ms or end.first_token_ms
        if end.usage.prompt_tokens:
            self._prompt_tokens = max(0, end.usage.prompt_tokens - tokens_before)
            self._cached_tokens = end.usage.cached_tokens if not tokens_before else self._cached_tokens
            self._completion_tokens = tokens_before + end.usage.completion_tokens

    def forget(self) -> None:
        """Another model begins anew."""
        self._prompt_tokens = self._cached_tokens = 0
        self._completion_tokens = None
        self.queue_ms = self.first_token_ms = 0.0

    def usage(self, *, written: int) -> TokenUsage:
        """What was used, when `written` tokens came of it."""
        # When it was ended before the engine could say what it used, the tokens were used all the same.
        completion_tokens = written if self._completion_tokens is None else self._completion_tokens
        return TokenUsage(self._prompt_tokens, completion_tokens, self._cached_tokens)
