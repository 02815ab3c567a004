"""The words of moderation. Offsets are Unicode code points from the start of a text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum


class Action(IntEnum):
    """What to do about a finding; a greater value is stricter."""

    ALLOW = 1
    WARN = 2
    REDACT = 3
    HOLD = 4
    BLOCK = 5

    @property
    def refuses(self) -> bool:
        """Whether nothing follows: an input is not answered, an answer ends."""
        return self >= Action.HOLD


class Direction(StrEnum):
    """Which way a text goes: from a user to a model, or from a model to a user."""

    INPUT = "input"
    OUTPUT = "output"


class Layer(StrEnum):
    """Who finds things, from the cheapest to the dearest."""

    RULES = "rules"
    ATTACKS = "attacks"
    CLASSIFIER = "classifier"
    GUARD = "guard"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a finding of one rule means in one direction, for the users that a policy is made for."""

    category: str
    rule: str
    action: Action
    replacement: str
    layer: Layer = Layer.RULES


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was found in `[start, end)`. `score` is how sure the layer is, 1 for patterns."""

    start: int
    end: int
    outcome: Outcome
    score: float = 1.0


@dataclass(frozen=True, slots=True)
class LayerResult:
    """What a layer said, and how long it took. `unchecked`: it did not answer, and the policy does without."""

    layer: Layer
    action: Action
    seconds: float
    unchecked: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement of a whole text.

    `redacted_text` is None when nothing is redacted; `note` is what the model is told, empty for nothing.
    `redacted_others` are texts that were sent with it, as they were sent and as they may be used.
    """

    action: Action
    findings: tuple[Finding, ...]
    redacted_text: str | None = None
    layers: tuple[LayerResult, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    redacted_others: Mapping[str, str] = field(default_factory=dict)

    @property
    def decisive(self) -> Finding | None:
        """The finding that decided: the first of the strictest."""
        return next((finding for finding in self.findings if finding.outcome.action is self.action), None)


@dataclass(frozen=True, slots=True)
class Retraction:
    """A range `[start, end)` of an answer, as the model wrote it, that must be shown as `replacement`."""

    start: int
    end: int
    replacement: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Subject:
    """What a text is part of, and who it is from or for."""

    generation_id: str
    conversation_id: str = ""
    user_id: str = ""
    tenant_id: str = ""
    tier: str = ""
    residency: str = ""


@dataclass(frozen=True, slots=True)
class Segment:
    """The next stretch of a generation's text. The first says what it is part of, and what it must not repeat."""

    generation_id: str
    text: str
    last: bool = False
    abandoned: bool = False
    subject: Subject | None = None
    protected_text: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a generation stands: what is clear, what must go since the last progress, whether this is the last."""

    watermark: int
    retractions: tuple[Retraction, ...] = ()
    done: bool = False
    policy_version: str = ""
    action: Action = Action.ALLOW
    categories: tuple[str, ...] = ()
    unchecked: tuple[Layer, ...] = ()
    event_id: str = ""
    seen: int = 0
    """How much has arrived."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that moderation did about a text, for the record and, when it is `pending`, for the review queue.

    `text` is None when the policy does not let it be kept; what is kept is kept until `expires_at`.
    """

    event_id: str
    created_at: datetime
    subject: Subject
    direction: Direction
    action: Action
    category: str
    findings: tuple[Finding, ...]
    text_sha256: str
    text_length: int
    text: str | None
    expires_at: datetime
    policy_version: str
    pending: bool
    late: bool = False
