"""Verdicts of moderation that come late, and what they make of an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.conversation.convert import error_summary
from services.conversation.model import ErrorSummary
from services.runtime.errors import DomainError, Reason


@dataclass(frozen=True, slots=True)
class LateVerdict:
    """What is to become of a question or an answer that moderation let through, or held back."""

    generation_id: str
    user_id: str
    retract: bool
    """Whether it is taken back; otherwise it is given back."""
    of_input: bool
    """Whether the user's message is meant. When that goes, so does the answer to it."""
    category: str
    replacement: str
    """What to show instead of an answer that is taken back."""
    text: str
    """What is given back, as it was."""
    event_id: str
    policy_version: str


@dataclass(frozen=True, slots=True)
class Revision:
    """What a late verdict has made of an answer: what stands in its place, and why."""

    replacement: str
    category: str
    policy_version: str
    event_id: str
    of_input: bool
    length: int | None = None
    """Code points that its readers may have instead; None of an answer that had not ended."""

    @property
    def error(self) -> ErrorSummary:
        """Why the answer is gone."""
        what = "The message" if self.of_input else "This answer"
        return error_summary(late_refusal(what, self.category, self.policy_version, self.event_id))


def retraction(verdict: LateVerdict, *, length: int | None = None) -> Revision:
    """What a verdict makes of an answer that it takes back."""
    return Revision(
        verdict.replacement, verdict.category, verdict.policy_version, verdict.event_id, verdict.of_input, length
    )


def late_refusal(what: str, category: str, policy_version: str, event_id: str) -> DomainError:
    """The error of a text that was taken back."""
    return DomainError(
        Reason.CONTENT_BLOCKED,
        f"{what} was taken back by the content policy ({category}).",
        metadata={"category": category, "policy_version": policy_version, "event_id": event_id},
    )


def revision_to_json(revision: Revision) -> dict[str, Any]:
    """As stored."""
    return {
        "replacement": revision.replacement,
        "category": revision.category,
        "policy_version": revision.policy_version,
        "event_id": revision.event_id,
        "of_input": revision.of_input,
        "length": revision.length,
    }


def revision_from_json(value: Mapping[str, Any]) -> Revision:
    """As stored."""
    return Revision(
        value["replacement"],
        value["category"],
        value["policy_version"],
        value["event_id"],
        value["of_input"],
        value["length"],
    )
