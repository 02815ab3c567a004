"""Between the contract of Moderation and the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from chatmesh.moderation.v1 import moderation_service_pb2, verdict_pb2
from services.conversation.moderation_model import (
    AnswerContext,
    Availability,
    InputVerdict,
    ModerationCheck,
    ModerationMode,
    Retraction,
    Stand,
)
from services.conversation.peers.convert import MAX_BYTES
from services.runtime.errors import DomainError, Reason


def input_check(
    *,
    generation_id: str,
    conversation_id: str,
    texts: Sequence[str],
    earlier: Sequence[str],
    untrusted: Sequence[str],
    last_is_untrusted: bool,
) -> moderation_service_pb2.CheckInputRequest:
    """What a user sends, and what goes to the model beside it."""
    parts = [
        *(_context(moderation_service_pb2.INPUT_ORIGIN_EARLIER_TURN, text) for text in earlier),
        *(_context(moderation_service_pb2.INPUT_ORIGIN_UNTRUSTED, text) for text in untrusted),
    ]
    request = moderation_service_pb2.CheckInputRequest(
        generation_id=generation_id, conversation_id=conversation_id, texts=texts, context=parts
    )
    if last_is_untrusted:
        request.last_origin = moderation_service_pb2.INPUT_ORIGIN_UNTRUSTED
    return request


def _context(origin: moderation_service_pb2.InputOrigin, text: str) -> moderation_service_pb2.InputContext:
    return moderation_service_pb2.InputContext(origin=origin, text=text)


def input_verdict_from_pb(
    request: moderation_service_pb2.CheckInputRequest, response: moderation_service_pb2.CheckInputResponse
) -> InputVerdict:
    """The judgement of what a user sent."""
    others = [*request.texts, *(part.text for part in request.context)]
    verdict, availability = response.verdict, response.availability
    return InputVerdict(
        redacted=verdict.redacted_text if verdict.action == verdict_pb2.ACTION_REDACT else None,
        note=verdict.note,
        check=ModerationCheck(
            ModerationMode.CHECKED,
            _ACTIONS.get(verdict.action, ""),
            tuple(dict.fromkeys(finding.category for finding in verdict.findings if _counts(finding.action))),
            tuple(_LAYERS.get(result.layer, "") for result in verdict.layers if result.unchecked),
            verdict.event_id,
        ),
        availability=Availability(
            patience_s=availability.patience_ms / 1000,
            input_open=not availability.input_closed,
            output_open=not availability.output_closed,
            policy_version=availability.policy_version,
        )
        if response.HasField("availability")
        else None,
        policy_version=verdict.policy_version,
        redacted_others={others[other.index]: other.text for other in verdict.redacted_others},
    )


def refusal_from_pb(verdict: verdict_pb2.Verdict, *, what: str) -> DomainError | None:
    """The error for an input that is refused, which it calls `what`; None for one that is not."""
    if not _refuses(verdict.action):
        return None
    category = next((finding.category for finding in verdict.findings if finding.action == verdict.action), "")
    return refused(
        what,
        category,
        verdict.policy_version,
        held=verdict.action == verdict_pb2.ACTION_HOLD,
        event_id=verdict.event_id,
    )


def refused(what: str, category: str, policy_version: str, *, held: bool, event_id: str) -> DomainError:
    """The error for a text that the policy refuses."""
    metadata = {"category": category, "policy_version": policy_version}
    if event_id:
        metadata["event_id"] = event_id
    if held:
        return DomainError(
            Reason.CONTENT_HELD, f"{what} is held until somebody has looked at it ({category}).", metadata=metadata
        )
    return DomainError(
        Reason.CONTENT_BLOCKED, f"{what} was refused by the content policy ({category}).", metadata=metadata
    )


def not_checked() -> DomainError:
    """The error for an answer that nobody checks, where the policy lets nothing pass unchecked."""
    return DomainError(
        Reason.DEPENDENCY_UNAVAILABLE,
        "The answer could not be checked, so it was not shown; try again shortly.",
        metadata={"service": "moderation"},
    )


def segment(
    generation_id: str, text: str, *, last: bool, context: AnswerContext | None = None
) -> moderation_service_pb2.Segment:
    """The next stretch of an answer; the first says what it is part of."""
    made = moderation_service_pb2.Segment(generation_id=generation_id, text=text, last=last)
    if context is not None:
        made.context.user_id = context.user_id
        made.context.tier = context.tier
        made.context.tenant_id = context.tenant_id
        made.context.conversation_id = context.conversation_id
        made.context.protected_text = context.protected_text
        made.context.residency = context.residency
    return made


def abandonment(generation_id: str) -> moderation_service_pb2.Segment:
    """Says that an answer was dropped."""
    return moderation_service_pb2.Segment(generation_id=generation_id, abandoned=True)


def check_stream_requests(
    segments: Iterable[moderation_service_pb2.Segment],
) -> Iterator[moderation_service_pb2.CheckStreamRequest]:
    """Everything that is to be checked, in messages of a bounded size."""
    request = moderation_service_pb2.CheckStreamRequest()
    size = 0
    for item in segments:
        size += item.ByteSize()
        if request.segments and size > MAX_BYTES:
            yield request
            request, size = moderation_service_pb2.CheckStreamRequest(), item.ByteSize()
        request.segments.append(item)
    yield request


def stand_from_pb(result: moderation_service_pb2.SegmentResult) -> Stand:
    """Where the check of an answer stands."""
    version = result.policy_version
    return Stand(
        watermark=result.watermark,
        retractions=[
            Retraction(
                r.start,
                r.end,
                r.replacement,
                r.category,
                _refuses(r.action),
                version,
                held=r.action == verdict_pb2.ACTION_HOLD,
            )
            for r in result.retractions
        ],
        done=result.done,
        seen=result.seen,
        check=ModerationCheck(
            ModerationMode.CHECKED,
            _ACTIONS.get(result.action, ""),
            tuple(result.categories),
            tuple(result.unchecked),
            result.event_id,
        ),
        policy_version=version,
    )


_ACTIONS: Mapping[int, str] = {
    verdict_pb2.ACTION_ALLOW: "allow",
    verdict_pb2.ACTION_WARN: "warn",
    verdict_pb2.ACTION_REDACT: "redact",
    verdict_pb2.ACTION_HOLD: "hold",
    verdict_pb2.ACTION_BLOCK: "block",
}
_LAYERS: Mapping[int, str] = {
    verdict_pb2.LAYER_RULES: "rules",
    verdict_pb2.LAYER_ATTACKS: "attacks",
    verdict_pb2.LAYER_CLASSIFIER: "classifier",
    verdict_pb2.LAYER_GUARD: "guard",
}


def _refuses(action: int) -> bool:
    return action in (verdict_pb2.ACTION_BLOCK, verdict_pb2.ACTION_HOLD)


def _counts(action: int) -> bool:
    return action not in (verdict_pb2.ACTION_UNSPECIFIED, verdict_pb2.ACTION_ALLOW)
