"""What moderation says of questions and answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class ModerationMode(StrEnum):
    """Whether a text was checked."""

    CHECKED = "checked"
    OPEN = "open"
    """Moderation was slow or gone, and the policy lets such text pass."""
    CLOSED = "closed"
    """Moderation was slow or gone, and the policy lets no such text pass."""


@dataclass(frozen=True, slots=True)
class ModerationCheck:
    """What became of one text. `action` is the strictest that was done, empty when it was not checked."""

    mode: ModerationMode
    action: str = ""
    categories: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    """Layers that did not answer in time, where the policy does without them."""
    event_id: str = ""
    """Of the review queue."""


_STRICTER = ("", "allow", "warn", "redact", "hold", "block")


def both(text: ModerationCheck, beside: ModerationCheck | None) -> ModerationCheck:
    """What became of a text and of what belongs to it: the strictest of both, and checked only when both were."""
    if beside is None:
        return text
    return ModerationCheck(
        mode=beside.mode if text.mode is ModerationMode.CHECKED else text.mode,
        action=max(text.action, beside.action, key=_STRICTER.index),
        categories=tuple(dict.fromkeys((*text.categories, *beside.categories))),
        unchecked=tuple(dict.fromkeys((*text.unchecked, *beside.unchecked))),
        event_id=text.event_id or beside.event_id,
    )


@dataclass(frozen=True, slots=True)
class ModerationReceipt:
    """How a question and its answer were moderated."""

    policy_version: str
    input: ModerationCheck | None = None
    output: ModerationCheck | None = None


@dataclass(frozen=True, slots=True)
class Availability:
    """What the policy says about the time when Moderation is slow or gone."""

    patience_s: float
    """How long to wait for a verdict."""
    input_open: bool
    output_open: bool
    policy_version: str


@dataclass(frozen=True, slots=True)
class InputVerdict:
    """The judgement of what a user sent.

    `redacted` is the text to go on with, None when it is as it was sent; `note` is what the model is told about it.
    """

    redacted: str | None
    note: str
    check: ModerationCheck
    availability: Availability | None
    """None when nobody has said anything about it yet, and then nothing passes unchecked."""
    policy_version: str
    redacted_others: Mapping[str, str] = field(default_factory=dict)
    """Texts that went with it, as they were sent and as they may go to the model."""


def let_pass(policy_version: str) -> InputVerdict:
    """Of a text that the policy refuses and a person has let pass."""
    return InputVerdict(None, "", ModerationCheck(ModerationMode.CHECKED, "allow"), None, policy_version)


@dataclass(frozen=True, slots=True)
class Retraction:
    """Text of an answer that must go: a range of what the model wrote, and what stands there instead."""

    start: int
    end: int
    replacement: str
    category: str
    ends_answer: bool
    policy_version: str
    held: bool = False
    """Whether it may come back, when somebody has looked at it."""


@dataclass(frozen=True, slots=True)
class Stand:
    """Where the check of an answer stands. Offsets are code points of what the model wrote."""

    watermark: int
    """What lies before it may be shown."""
    retractions: Sequence[Retraction]
    done: bool
    seen: int
    """How much of it has arrived."""
    check: ModerationCheck
    policy_version: str


@dataclass(frozen=True, slots=True)
class AnswerContext:
    """What an answer is part of, for whoever checks it."""

    user_id: str
    tier: str
    tenant_id: str
    conversation_id: str
    protected_text: str
    """Instructions that it must not repeat."""
    residency: str = ""


class Lag:
    """How long the check of an answer has been behind what was written."""

    __slots__ = ("_due", "_since")

    def __init__(self) -> None:
        self._due = 0
        self._since: float | None = None

    def is_over(self, patience_s: float, *, reached: int, due: int, now: float) -> bool:
        """Whether what was due so long ago has still not been reached.

        A check that keeps up is always a little behind an answer that is being written, so it is not enough to have
        been behind at every look.
        """
        if self._since is None or reached >= self._due:
            self._due, self._since = due, now if reached < due else None
        return self._since is not None and now - self._since > patience_s
