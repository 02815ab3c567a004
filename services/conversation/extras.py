"""What an answer has beside its text, where that was asked for."""

from __future__ import annotations

from services.conversation.engine_model import TokenDetails
from services.conversation.token_logprobs import TokenLogprobs
from services.conversation.tool_calls import ToolCalls


class Extras:
    """The log-probabilities of an answer's tokens, and the calls of tools that it asks for.

    Args:
        generation_id: The answer's.
        with_logprobs: Whether they are kept.
    """

    def __init__(self, generation_id: str, *, with_logprobs: bool = False) -> None:
        self.tool_calls = ToolCalls(generation_id)
        self.logprobs = TokenLogprobs() if with_logprobs else None

    def add(self, details: TokenDetails) -> None:
        """What an engine says of the tokens that come next."""
        self.tool_calls.add(details.tool_calls)
        if self.logprobs is not None:
            self.logprobs.add(details.logprobs)

    def write(self, text: str) -> None:
        """More of the answer's text."""
        if self.logprobs is not None:
            self.logprobs.write(text)

    def clear(self, watermark: int) -> None:
        """The text before `watermark` is shown."""
        if self.logprobs is not None:
            self.logprobs.clear(watermark)

    def replace(self, start: int, end: int) -> None:
        """A range of the text is not shown as it was written."""
        if self.logprobs is not None:
            self.logprobs.replace(start, end)

    def restart(self) -> None:
        """Another engine goes on with the answer."""
        self.tool_calls.restart()
        if self.logprobs is not None:
            self.logprobs.restart()

    def forget(self) -> None:
        """Another model begins anew; nothing was shown."""
        self.tool_calls.restart()
        if self.logprobs is not None:
            self.logprobs = TokenLogprobs()
