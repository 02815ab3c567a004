"""What can be asked of a synthetic model in the models file."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from services.runtime.routing_policy import CapabilityName


class SyntheticOptions(BaseModel):
    """`engine_options` of a synthetic model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens_per_second: float = Field(50.0, ge=0, le=10_000, description="of each answer; 0 is as fast as possible")
    time_to_first_token_ms: float = Field(0.0, ge=0, description="from the start to the first token")
    prefill_tokens_per_second: float = Field(
        0.0, ge=0, description="prompt tokens that are not cached take this time before the first token; 0 is none"
    )
    kv_cache_tokens: int = Field(
        0, ge=0, description="prompts and answers that are kept; 0 is room for a full context in each slot"
    )
    answer_tokens: int = Field(64, ge=1, description="length of an answer, unless max_tokens ends it before")
    answer: str = Field(
        "", description="says this and nothing else; where an answer must have a form, only if this is JSON"
    )
    mean_logprob: float = Field(-0.4, lt=0, ge=-20, description="how sure it is: the mean over its tokens")
    lacks: tuple[CapabilityName, ...] = Field((), description="capabilities that it does not have")
    fail_after_tokens: int | None = Field(None, ge=0, description="the engine fails after so many tokens")
    stall_after_tokens: int | None = Field(None, ge=0, description="the engine says nothing more after so many tokens")
    fail_times: int | None = Field(
        None, ge=0, description="so many answers fail or stall as scripted, the next ones do not; unset is all of them"
    )
    slow_file: Path | None = Field(
        None, description="while this file is there, all times are multiplied by the number in it"
    )


class Faults:
    """The scripted faults of an engine that are still to come."""

    __slots__ = ("_left", "fail_at", "stall_at")

    def __init__(self, options: SyntheticOptions) -> None:
        self._left = options.fail_times
        self.fail_at = options.fail_after_tokens
        self.stall_at = options.stall_after_tokens
        self._disarm_when_spent()

    def happened(self) -> None:
        """One of them."""
        if self._left is not None:
            self._left -= 1
            self._disarm_when_spent()

    def _disarm_when_spent(self) -> None:
        if self._left is not None and self._left <= 0:
            self.fail_at = self.stall_at = None
