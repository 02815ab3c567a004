"""The words of the guard."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from services.moderation.model import Direction, Subject


@dataclass(frozen=True, slots=True)
class GuardJob:
    """A text that was let through, and that the guard looks at in the background.

    Attributes:
        subject: What it is part of.
        direction: Which way it went.
        text: The text, with all redactions applied.
        question: Of an answer: what it answers; empty where that is not known.
        policy_version: Of the policy that let it through.
    """

    subject: Subject
    direction: Direction
    text: str
    question: str
    policy_version: str


@dataclass(frozen=True, slots=True)
class Opinion:
    """What the guard says of a text: that it is safe, or not, and then by which of its own codes."""

    unsafe: bool
    codes: tuple[str, ...] = ()


SAFE = Opinion(unsafe=False)


class Mode(StrEnum):
    """When the guard is asked."""

    WAITED_FOR = "waited_for"
    """Before an input passes."""
    BACKGROUND = "background"


class Silence(StrEnum):
    """Why there is no opinion."""

    LATE = "late"
    """It did not answer in time."""
    AWAY = "away"
    """Nothing serves it now."""
    FAILED = "failed"
    """What serves it failed, or refused the text."""
    UNREADABLE = "unreadable"
    """It said something that is no opinion."""


class Drop(StrEnum):
    """Why a text is not looked at, or not to the end."""

    FULL = "full"
    """Too many wait to be written to Redis."""
    LONG = "long"
    NO_GUARD = "no_guard"
    """The policy in force has none any more."""
    TRIED = "tried"
    """The guard was asked often enough, and said nothing that can be read in time."""
    UNREADABLE = "unreadable"
    """The entry of the stream is no job."""
    EXPIRED = "expired"
    """The guard was away for too long."""
