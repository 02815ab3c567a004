"""Between the words of moderation and its contracts."""

from __future__ import annotations

from collections.abc import Mapping

from chatmesh.moderation.v1 import moderation_service_pb2, verdict_pb2
from services.moderation.model import Action, Finding, Progress, Retraction, Segment, Verdict

_ACTIONS = {
    Action.ALLOW: verdict_pb2.ACTION_ALLOW,
    Action.REDACT: verdict_pb2.ACTION_REDACT,
    Action.BLOCK: verdict_pb2.ACTION_BLOCK,
}


def segment_from(segment: moderation_service_pb2.Segment) -> Segment:
    """The next stretch of a generation."""
    return Segment(segment.generation_id, segment.text, segment.last, segment.abandoned)


def verdict_to(verdict: Verdict, *, policy_version: str) -> verdict_pb2.Verdict:
    """The verdict as it goes on the wire."""
    return verdict_pb2.Verdict(
        action=_ACTIONS[verdict.action],
        findings=[_finding_to(finding) for finding in verdict.findings],
        policy_version=policy_version,
        redacted_text=verdict.redacted_text,
    )


def progress_to(progress: Mapping[str, Progress], *, policy_version: str) -> moderation_service_pb2.CheckStreamResponse:
    """Where the generations stand, as one message."""
    return moderation_service_pb2.CheckStreamResponse(
        results=[
            moderation_service_pb2.SegmentResult(
                generation_id=generation_id,
                watermark=stand.watermark,
                retractions=[_retraction_to(retraction) for retraction in stand.retractions],
                done=stand.done,
                policy_version=policy_version,
            )
            for generation_id, stand in progress.items()
        ]
    )


def _finding_to(finding: Finding) -> verdict_pb2.Finding:
    outcome = finding.outcome
    return verdict_pb2.Finding(
        category=outcome.category,
        rule=outcome.rule,
        start=finding.start,
        end=finding.end,
        action=_ACTIONS[outcome.action],
    )


def _retraction_to(retraction: Retraction) -> verdict_pb2.Retraction:
    return verdict_pb2.Retraction(
        start=retraction.start,
        end=retraction.end,
        replacement=retraction.replacement,
        category=retraction.outcome.category,
        action=_ACTIONS[retraction.outcome.action],
    )
