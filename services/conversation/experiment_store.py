"""What experiments and shadows have shown: one row per answer and arm, one per shadow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

from services.conversation.chat_model import FinishReason, TokenUsage
from services.runtime.clock import Clock
from services.runtime.database import Database


@dataclass(frozen=True, slots=True)
class Exposure:
    """An answer that was given in arms of experiments. Not of a conversation: the two ids are empty."""

    generation_id: str
    user_id: str
    arms: tuple[tuple[str, str], ...]
    """Experiments with their arms."""
    status: str
    """As a message's."""
    first_token_ms: float
    duration_ms: float
    completion_tokens: int
    cost_nano_usd: int | None
    conversation_id: str = ""
    message_id: str = ""


@dataclass(frozen=True, slots=True)
class ShadowRun:
    """A copy of a request, and what came of it."""

    name: str
    generation_id: str
    model: str
    replica_id: str
    finish_reason: FinishReason
    error: str
    usage: TokenUsage
    first_token_ms: float
    duration_ms: float


@dataclass(frozen=True, slots=True)
class ArmResult:
    """What came of one arm; times in milliseconds. Those to the first token are of answers that had one."""

    arm: str
    users: int
    generations: int
    failed: int
    rated: int
    rated_up: int
    first_token_p50_ms: float
    first_token_p99_ms: float
    duration_p50_ms: float
    duration_p99_ms: float
    completion_tokens: float
    cost_nano_usd: float


class ExperimentStore:
    """Records and compares."""

    def __init__(self, *, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def record(self, exposure: Exposure) -> None:
        """Store an exposure, once, whatever is retried."""
        await self._database.statement(_RECORD, exposure_parameters(exposure) | {"now": self._clock.now()})

    async def record_shadow(self, run: ShadowRun) -> None:
        """Store what came of a shadow."""
        await self._database.statement(
            _RECORD_SHADOW,
            {
                "name": run.name,
                "generation": run.generation_id,
                "model": run.model,
                "replica": run.replica_id,
                "finish_reason": run.finish_reason.value,
                "error": run.error,
                "prompt_tokens": run.usage.prompt_tokens,
                "completion_tokens": run.usage.completion_tokens,
                "first_token_ms": run.first_token_ms,
                "duration_ms": run.duration_ms,
                "now": self._clock.now(),
            },
        )

    async def results(self, *, experiment: str, since: datetime | None) -> Sequence[ArmResult]:
        """The arms of an experiment, by name."""
        rows = await self._database.statement(_RESULTS, {"experiment": experiment, "since": since})
        return [ArmResult(row[0], *(value or 0 for value in row[1:])) for row in rows]


def exposure_parameters(exposure: Exposure) -> dict[str, Any]:
    """Parameters of a statement with `RECORD_EXPOSURES`."""
    return {
        "generation": exposure.generation_id,
        "experiments": [experiment for experiment, _ in exposure.arms],
        "arms": [arm for _, arm in exposure.arms],
        "user": exposure.user_id,
        "conversation": exposure.conversation_id or None,
        "message": exposure.message_id or None,
        "status": exposure.status,
        "first_token_ms": exposure.first_token_ms,
        "duration_ms": exposure.duration_ms,
        "completion_tokens": exposure.completion_tokens,
        "cost_nano_usd": exposure.cost_nano_usd,
    }


_RECORD: LiteralString = """
INSERT INTO conversation.exposures (experiment, generation_id, arm, user_id, conversation_id, message_id, status,
    first_token_ms, duration_ms, completion_tokens, cost_nano_usd, created_at)
SELECT experiment, %(generation)s::UUID, arm, %(user)s, %(conversation)s::UUID, %(message)s::UUID, %(status)s,
    %(first_token_ms)s, %(duration_ms)s, %(completion_tokens)s, %(cost_nano_usd)s::INT8, %(now)s
FROM unnest(%(experiments)s::TEXT[], %(arms)s::TEXT[]) AS dealt (experiment, arm)
ON CONFLICT (experiment, generation_id) DO NOTHING
"""

_RECORD_SHADOW: LiteralString = """
INSERT INTO conversation.shadow_runs (name, generation_id, model, replica_id, finish_reason, error, prompt_tokens,
    completion_tokens, first_token_ms, duration_ms, created_at)
VALUES (%(name)s, %(generation)s, %(model)s, %(replica)s, %(finish_reason)s, %(error)s, %(prompt_tokens)s,
    %(completion_tokens)s, %(first_token_ms)s, %(duration_ms)s, %(now)s)
ON CONFLICT (name, generation_id) DO NOTHING
"""

_RESULTS: LiteralString = """
SELECT e.arm, count(DISTINCT e.user_id), count(*), count(*) FILTER (WHERE e.status = 'failed'),
    count(*) FILTER (WHERE f.rating IN ('up', 'down')), count(*) FILTER (WHERE f.rating = 'up'),
    percentile_cont(0.5) WITHIN GROUP (ORDER BY e.first_token_ms) FILTER (WHERE e.first_token_ms > 0),
    percentile_cont(0.99) WITHIN GROUP (ORDER BY e.first_token_ms) FILTER (WHERE e.first_token_ms > 0),
    percentile_cont(0.5) WITHIN GROUP (ORDER BY e.duration_ms),
    percentile_cont(0.99) WITHIN GROUP (ORDER BY e.duration_ms),
    avg(e.completion_tokens)::FLOAT8, avg(e.cost_nano_usd)::FLOAT8
FROM conversation.exposures AS e
LEFT JOIN conversation.feedback AS f ON f.conversation_id = e.conversation_id AND f.message_id = e.message_id
WHERE e.experiment = %(experiment)s AND (%(since)s::TIMESTAMPTZ IS NULL OR e.created_at >= %(since)s::TIMESTAMPTZ)
GROUP BY e.arm ORDER BY e.arm
"""
