"""Between the words of moderation and its contracts."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from chatmesh.moderation.v1 import moderation_service_pb2 as pb
from chatmesh.moderation.v1 import verdict_pb2
from services.moderation.judge import InputTexts
from services.moderation.model import (
    Action,
    Finding,
    Layer,
    LayerResult,
    Progress,
    Retraction,
    Segment,
    Subject,
    Verdict,
)
from services.moderation.policy import UserPolicy

ACTIONS = {
    Action.ALLOW: verdict_pb2.ACTION_ALLOW,
    Action.WARN: verdict_pb2.ACTION_WARN,
    Action.REDACT: verdict_pb2.ACTION_REDACT,
    Action.HOLD: verdict_pb2.ACTION_HOLD,
    Action.BLOCK: verdict_pb2.ACTION_BLOCK,
}
_LAYERS = {
    Layer.RULES: verdict_pb2.LAYER_RULES,
    Layer.ATTACKS: verdict_pb2.LAYER_ATTACKS,
    Layer.CLASSIFIER: verdict_pb2.LAYER_CLASSIFIER,
    Layer.GUARD: verdict_pb2.LAYER_GUARD,
}


def input_from(request: pb.CheckInputRequest) -> InputTexts:
    """What a user sends. Text of an origin that is not said is nobody's."""
    earlier = pb.INPUT_ORIGIN_EARLIER_TURN
    return InputTexts(
        texts=list(request.texts),
        earlier=[part.text for part in request.context if part.origin == earlier],
        untrusted=[part.text for part in request.context if part.origin != earlier],
        last_is_untrusted=request.last_origin == pb.INPUT_ORIGIN_UNTRUSTED,
    )


def segment_from(segment: pb.Segment) -> Segment:
    """The next stretch of a generation."""
    subject, protected_text = None, ""
    if segment.HasField("context"):
        context = segment.context
        protected_text = context.protected_text
        subject = Subject(
            generation_id=segment.generation_id,
            conversation_id=context.conversation_id,
            user_id=context.user_id,
            tenant_id=context.tenant_id,
            tier=context.tier,
            residency=context.residency,
        )
    return Segment(segment.generation_id, segment.text, segment.last, segment.abandoned, subject, protected_text)


def verdict_to(
    verdict: Verdict, *, request: pb.CheckInputRequest, policy_version: str, event_id: str
) -> verdict_pb2.Verdict:
    """The verdict on a request as it goes on the wire."""
    redacted = verdict.redacted_others
    others = [*request.texts[:-1], "", *(part.text for part in request.context)] if redacted else []
    return verdict_pb2.Verdict(
        action=ACTIONS[verdict.action],
        findings=[finding_to(finding) for finding in verdict.findings],
        policy_version=policy_version,
        redacted_text=verdict.redacted_text or "",
        layers=[_layer_to(result) for result in verdict.layers],
        note=verdict.note,
        event_id=event_id,
        redacted_others=[
            verdict_pb2.RedactedText(index=index, text=redacted[text])
            for index, text in enumerate(others)
            if text in redacted
        ],
    )


def availability_to(policy: UserPolicy) -> pb.Availability:
    """What the policy says about the time when Moderation is slow or gone."""
    return pb.Availability(
        patience_ms=policy.stream.patience_ms,
        input_closed=policy.input.closed,
        output_closed=policy.output.closed,
        policy_version=policy.version,
    )


def classification_to(scores: Mapping[str, float], flagged: Collection[str]) -> pb.Classification:
    """What is in one text."""
    return pb.Classification(
        flagged=bool(flagged),
        categories=[
            pb.CategoryScore(category=category, flagged=category in flagged, score=score)
            for category, score in scores.items()
        ],
    )


def progress_to(progress: Mapping[str, Progress]) -> pb.CheckStreamResponse:
    """Where the generations stand, as one message."""
    return pb.CheckStreamResponse(
        results=[
            pb.SegmentResult(
                generation_id=generation_id,
                watermark=stand.watermark,
                retractions=[_retraction_to(retraction) for retraction in stand.retractions],
                done=stand.done,
                policy_version=stand.policy_version,
                action=ACTIONS[stand.action],
                categories=stand.categories,
                unchecked=[layer.value for layer in stand.unchecked],
                event_id=stand.event_id,
                seen=stand.seen,
            )
            for generation_id, stand in progress.items()
        ]
    )


def finding_to(finding: Finding) -> verdict_pb2.Finding:
    """A finding as it goes on the wire."""
    outcome = finding.outcome
    return verdict_pb2.Finding(
        category=outcome.category,
        rule=outcome.rule,
        start=finding.start,
        end=finding.end,
        action=ACTIONS[outcome.action],
        layer=_LAYERS[outcome.layer],
        score=finding.score,
    )


def _layer_to(result: LayerResult) -> verdict_pb2.LayerResult:
    return verdict_pb2.LayerResult(
        layer=_LAYERS[result.layer],
        action=ACTIONS[result.action],
        duration_us=round(result.seconds * 1e6),
        unchecked=result.unchecked,
    )


def _retraction_to(retraction: Retraction) -> verdict_pb2.Retraction:
    return verdict_pb2.Retraction(
        start=retraction.start,
        end=retraction.end,
        replacement=retraction.replacement,
        category=retraction.outcome.category,
        action=ACTIONS[retraction.outcome.action],
        layer=_LAYERS[retraction.outcome.layer],
    )
