"""How the end of a turn goes into the database."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from services.conversation.convert import error_to_json
from services.conversation.late_model import Revision
from services.conversation.model import GenerationState, MessageStatus, OpenTurn, Outcome
from services.conversation.route_convert import route_to_json
from services.conversation.route_model import RouteReceipt

GENERATION_STATE = {
    MessageStatus.COMPLETED: GenerationState.COMPLETED,
    MessageStatus.STOPPED: GenerationState.STOPPED,
    MessageStatus.FAILED: GenerationState.FAILED,
    MessageStatus.BLOCKED: GenerationState.BLOCKED,
    MessageStatus.HELD: GenerationState.BLOCKED,
}
"""What has become of a generation, by what has become of its answer."""


class RevisionWantedError(Exception):
    """A late verdict says that the answer must not end as it did."""

    def __init__(self, revision: Revision) -> None:
        super().__init__("the answer was taken back")
        self.revision = revision


def finish_parameters(
    turn: OpenTurn,
    outcome: Outcome,
    *,
    model: str,
    route: RouteReceipt | None,
    last_seq: int,
    revised: bool,
    now: datetime,
) -> dict[str, Any]:
    """Parameters of `FINISH` and `FINISHED`."""
    return {
        "conversation": turn.conversation_id,
        "generation": turn.generation_id,
        "answer": turn.answer_id,
        "sequence": turn.answer_sequence,
        "status": outcome.status.value,
        "state": GENERATION_STATE[outcome.status].value,
        "finish_reason": outcome.finish_reason.value,
        "content": outcome.content,
        "model": model,
        "prompt_tokens": outcome.usage.prompt_tokens,
        "completion_tokens": outcome.usage.completion_tokens,
        "cached_tokens": outcome.usage.cached_tokens,
        "route": Jsonb(route_to_json(route)) if route else None,
        "replica": route.replica_id if route else "",
        "experiments": [arm.experiment for arm in route.experiments] if route else [],
        "arms": [arm.arm for arm in route.experiments] if route else [],
        "first_token_ms": route.first_token_ms if route else 0.0,
        "cost_nano_usd": route.cost_nano_usd if route else None,
        "error": Jsonb(error_to_json(outcome.error)) if outcome.error else None,
        "user": turn.user_id,
        "tier": turn.tier,
        "epoch": turn.epoch,
        "last_seq": last_seq,
        "revised": revised,
        "now": now,
    }
