"""The words of the review queue."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from services.moderation.model import Direction, Event


class EventState(StrEnum):
    """Where an event stands."""

    CLOSED = "closed"
    PENDING = "pending"
    CLAIMED = "claimed"
    DECIDED = "decided"


class Decision(StrEnum):
    """What a reviewer says about the policy's word: it was right, or it was wrong."""

    UPHOLD = "uphold"
    OVERTURN = "overturn"


@dataclass(frozen=True, slots=True)
class ReviewedEvent:
    """An event and what people have made of it.

    `event.text` is None when it is not kept, and also where it was not asked for; `text_kept` tells these apart. Texts
    are empty and times None where nothing has happened.
    """

    event: Event
    text_kept: bool
    state: EventState
    claimed_by: str
    claim_expires_at: datetime | None
    decision: Decision | None
    decided_by: str
    decided_at: datetime | None
    comment: str
    appeal: str
    appealed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Selection:
    """Which events to list; empty and None select all."""

    state: EventState | None = None
    category: str = ""
    user_id: str = ""
    generation_id: str = ""
    appealed: bool = False


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Something that somebody did with an event."""

    happened_at: datetime
    actor: str
    what: str


@dataclass(frozen=True, slots=True)
class DecidedText:
    """A text that somebody has decided on. `category` is what it really is, as far as anybody has said."""

    event_id: str
    decided_at: datetime
    direction: Direction
    category: str
    text: str
    decision: Decision


_PERSONAL = frozenset({"pii", "secrets"})
_ATTACKS = frozenset({"jailbreak"})


def training_head(direction: Direction, category: str) -> str:
    """Which score of the classifier a text teaches, by the training data's own names."""
    if direction is Direction.OUTPUT:
        return "harm_output"
    if category in _PERSONAL:
        return "pii"
    return "attack" if category in _ATTACKS else "harm"
