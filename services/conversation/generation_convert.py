"""Between the contract of generations and the model."""

from __future__ import annotations

from chatmesh.conversation.v1 import generation_service_pb2
from services.conversation.converse import Acknowledge, Open, Refused, Reply, Said, Shown, Stop, Stopped, WatchFrom
from services.conversation.convert import error_to_pb, event_to_pb, timestamp
from services.conversation.model import Generation, GenerationState
from services.conversation.request_convert import turn_from_edit, turn_from_regenerate, turn_from_send
from services.runtime.errors import DomainError
from services.runtime.validation import Validator

_STATES = {
    GenerationState.OPEN: generation_service_pb2.GENERATION_STATE_OPEN,
    GenerationState.COMPLETED: generation_service_pb2.GENERATION_STATE_COMPLETED,
    GenerationState.STOPPED: generation_service_pb2.GENERATION_STATE_STOPPED,
    GenerationState.FAILED: generation_service_pb2.GENERATION_STATE_FAILED,
    GenerationState.BLOCKED: generation_service_pb2.GENERATION_STATE_BLOCKED,
}
_STATES_FROM = {value: state for state, value in _STATES.items()}


def generation_to_pb(generation: Generation) -> generation_service_pb2.Generation:
    """As sent."""
    return generation_service_pb2.Generation(
        id=generation.id,
        conversation_id=generation.conversation_id,
        user_message_id=generation.user_message_id,
        message_id=generation.message_id,
        state=_STATES[generation.state],
        epoch=generation.epoch,
        requested_model=generation.requested_model,
        create_time=timestamp(generation.created_at),
        finish_time=timestamp(generation.finished_at) if generation.finished_at else None,
    )


def state_from_pb(state: generation_service_pb2.GenerationState) -> GenerationState | None:
    """As received; None for any."""
    return _STATES_FROM.get(state)


def converse_from_pb(request: generation_service_pb2.ConverseRequest, validator: Validator) -> Said:
    """What a client says on the stream; without content when it says nothing."""
    tag = request.tag
    try:
        validator.validate(request)
    except DomainError as error:
        return Said(tag[:64], error)
    match request.WhichOneof("request"):
        case "open":
            return Said(tag, Open(request.open.max_unacknowledged))
        case "send":
            return Said(tag, turn_from_send(request.send))
        case "edit":
            return Said(tag, turn_from_edit(request.edit))
        case "regenerate":
            return Said(tag, turn_from_regenerate(request.regenerate))
        case "watch":
            return Said(tag, WatchFrom(request.watch.generation_id, request.watch.after_seq))
        case "stop":
            return Said(tag, Stop(request.stop.generation_id))
        case "acknowledge":
            return Said(tag, Acknowledge(request.acknowledge.generation_id, request.acknowledge.seq))
    return Said(tag, None)


def converse_to_pb(reply: Reply) -> generation_service_pb2.ConverseResponse:
    """As sent."""
    pb = generation_service_pb2.ConverseResponse(tag=reply.tag)
    match reply.content:
        case Shown(generation_id, entry):
            pb.event.CopyFrom(event_to_pb(entry, generation_id=generation_id))
        case Refused(error):
            pb.error.CopyFrom(error_to_pb(error))
        case Stopped(generation):
            pb.stopped.CopyFrom(generation_to_pb(generation))
    return pb
