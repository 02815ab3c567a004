"""Between the guard's words and the contracts of Router, Inference and the stream of jobs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from google.protobuf.message import DecodeError

from chatmesh.inference.v1 import generation_pb2, inference_service_pb2
from chatmesh.inference.v1.generation_pb2 import GenerationStart
from chatmesh.moderation.v1 import guard_job_pb2
from chatmesh.router.v1 import router_service_pb2
from chatmesh.type.v1 import chat_pb2
from services.moderation.guard.model import GuardJob, Mode
from services.moderation.guard.template import Turn
from services.moderation.model import Direction, Subject
from services.runtime.errors import DomainError, Reason, from_status

Start = GenerationStart
"""A generation to start, ready to be sent."""

STARTS = 8
"""Most generations that one message starts, so that it stays within the bound for messages."""
_ROLES = {"system": chat_pb2.ROLE_SYSTEM, "user": chat_pb2.ROLE_USER, "assistant": chat_pb2.ROLE_ASSISTANT}
_PRIORITIES = {
    # Somebody waits for the first token of another generation, which waits for this one.
    Mode.WAITED_FOR: generation_pb2.PRIORITY_HIGH,
    Mode.BACKGROUND: generation_pb2.PRIORITY_BACKGROUND,
}


def route_request(
    generation_id: str, *, model: str, mode: Mode, excluded: str, failed: str
) -> router_service_pb2.RouteRequest:
    """Where the guard runs. `excluded` is a replica that must not be chosen, `failed` one that has just failed."""
    return router_service_pb2.RouteRequest(
        generation_id=generation_id,
        model=model,
        excluded_replica_ids=[excluded] if excluded else [],
        failed_replica_id=failed,
        background=mode is Mode.BACKGROUND,
        # No experiments with it, and no copies of it elsewhere.
        continues=True,
    )


def generation_start(
    generation_id: str, *, model: str, mode: Mode, turns: Sequence[Turn], max_tokens: int, traceparent: str
) -> Start:
    """Asks the guard."""
    return GenerationStart(
        generation_id=generation_id,
        model=model,
        messages=[chat_pb2.ChatMessage(role=_ROLES[turn.role], content=turn.content) for turn in turns],
        sampling=chat_pb2.SamplingOptions(temperature=0.0, max_tokens=max_tokens),
        traceparent=traceparent,
        priority=_PRIORITIES[mode],
    )


def generate_requests(items: Sequence[Start | str]) -> Iterator[inference_service_pb2.GenerateRequest]:
    """Generations to start, and ids of generations to cancel, in messages of a bounded size."""
    request = inference_service_pb2.GenerateRequest()
    for item in items:
        if isinstance(item, str):
            request.cancels.append(item)
            continue
        if len(request.starts) == STARTS:
            yield request
            request = inference_service_pb2.GenerateRequest()
        request.starts.append(item)
    yield request


def failure(end: generation_pb2.GenerationEnd) -> DomainError | None:
    """Why a generation ended without a reply; None when it has one."""
    if end.finish_reason in (chat_pb2.FINISH_REASON_STOP, chat_pb2.FINISH_REASON_LENGTH):
        return None
    error = from_status(end.error) if end.finish_reason == chat_pb2.FINISH_REASON_ERROR else None
    return error or DomainError(Reason.ENGINE_FAILED, "The guard model ended without a reply.")


def job_to_bytes(job: GuardJob) -> bytes:
    """The job as it goes into the stream."""
    subject = job.subject
    return guard_job_pb2.GuardJob(
        generation_id=subject.generation_id,
        conversation_id=subject.conversation_id,
        user_id=subject.user_id,
        tenant_id=subject.tenant_id,
        tier=subject.tier,
        residency=subject.residency,
        input=job.direction is Direction.INPUT,
        text=job.text,
        question=job.question,
        policy_version=job.policy_version,
    ).SerializeToString()


def job_from_bytes(data: bytes) -> GuardJob:
    """The job of an entry.

    Raises:
        ValueError: It is none.
    """
    try:
        job = guard_job_pb2.GuardJob.FromString(data)
    except DecodeError as error:
        raise ValueError("it is no job") from error
    if not job.text or not job.generation_id:
        raise ValueError("it has no text, or belongs to nothing")
    return GuardJob(
        subject=Subject(job.generation_id, job.conversation_id, job.user_id, job.tenant_id, job.tier, job.residency),
        direction=Direction.INPUT if job.input else Direction.OUTPUT,
        text=job.text,
        question=job.question,
        policy_version=job.policy_version,
    )
