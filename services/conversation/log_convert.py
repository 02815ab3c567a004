"""Between entries of a log and what Redis keeps of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from chatmesh.conversation.v1 import generation_event_pb2, generation_log_pb2
from chatmesh.type.v1 import chat_pb2
from services.conversation.chat_model import FinishReason, GeneratedPiece, TokenUsage
from services.conversation.convert import (
    FINISH_TO_PB,
    NOTICE_TO_PB,
    error_from_pb,
    event_to_pb,
    message_from_pb,
    usage_to_pb,
)
from services.conversation.generation_log import (
    AS_SHOWN,
    Completed,
    Delta,
    Ended,
    Entry,
    Event,
    Failed,
    Notice,
    Replacement,
    Retracted,
    Started,
    Written,
)
from services.conversation.route_convert import route_from_pb, route_to_pb

_NOTICES = {value: kind for kind, value in NOTICE_TO_PB.items()}
_UNKNOWN = Delta("")
"""What a newer server wrote and this one does not know: nothing to show, at a position that nothing else may take."""
_FINISH_REASONS = {value: reason for reason, value in FINISH_TO_PB.items()}


def entries_to_bytes(entries: Iterable[Entry]) -> bytes:
    """What is appended at once."""
    return generation_log_pb2.GenerationLogEntry(events=[_logged(entry) for entry in entries]).SerializeToString()


def entries_from_bytes(data: bytes) -> Sequence[Entry]:
    """What was appended at once."""
    return [_entry(logged) for logged in generation_log_pb2.GenerationLogEntry.FromString(data).events]


def _logged(entry: Entry) -> generation_log_pb2.LoggedEvent:
    event = entry.event
    logged = generation_log_pb2.LoggedEvent(event=event_to_pb(entry, generation_id=""))
    match event:
        case Delta(_, written) | Retracted(written=written):
            if written is not AS_SHOWN:
                _add_written(logged, event, written)
            if isinstance(event, Retracted):
                logged.written_start = event.written_start
                logged.written_end = event.written_end
        case Notice(_, model, max_tokens) if model:
            logged.start.model = model
            logged.start.max_tokens = max_tokens
        case Started():
            logged.start.model = event.model
            logged.start.max_tokens = event.max_tokens
            if event.route is not None:
                logged.start.route.CopyFrom(route_to_pb(event.route))
        case Ended(reason, usage):
            logged.end.finish_reason = FINISH_TO_PB[reason]
            logged.end.usage.CopyFrom(usage_to_pb(usage))
    return logged


def _add_written(logged: generation_log_pb2.LoggedEvent, event: Delta | Retracted, written: Written) -> None:
    logged.written_tokens = written.tokens
    pieces = written.pieces
    if len(pieces) == 1 and isinstance(event, Delta) and pieces[0].text == event.text:
        logged.token_ids.extend(pieces[0].token_ids)
    else:
        for piece in pieces:
            logged.written.append(chat_pb2.GeneratedPiece(text=piece.text, token_ids=piece.token_ids))
    for r in written.replaced:
        logged.replaced.add(start=r.start, end=r.end, text=r.text, category=r.category)


def _entry(logged: generation_log_pb2.LoggedEvent) -> Entry:
    return Entry(logged.event.seq, _event(logged), logged.event.epoch)


def _event(logged: generation_log_pb2.LoggedEvent) -> Event:
    pb: generation_event_pb2.GenerationEvent = logged.event
    match pb.WhichOneof("event"):
        case "started":
            started = pb.started
            return Started(
                conversation_id=started.conversation_id,
                user_message_id=started.user_message_id,
                message_id=started.message_id,
                model=logged.start.model,
                max_tokens=logged.start.max_tokens,
                route=route_from_pb(logged.start.route) if logged.start.HasField("route") else None,
            )
        case "delta":
            return Delta(pb.delta.text, _written(logged))
        case "retracted":
            gone = pb.retracted
            return Retracted(
                start=gone.start,
                end=gone.end,
                replacement=gone.replacement,
                category=gone.category,
                written_start=logged.written_start,
                written_end=logged.written_end,
                written=_written(logged),
            )
        case "notice":
            kind = _NOTICES.get(pb.notice.kind)
            return Notice(kind, logged.start.model, logged.start.max_tokens) if kind is not None else _UNKNOWN
        case "completed":
            return Completed(message_from_pb(pb.completed.message) if pb.completed.HasField("message") else None)
        case "failed":
            return Failed(
                error_from_pb(pb.failed.error),
                message_from_pb(pb.failed.message) if pb.failed.HasField("message") else None,
            )
    if not logged.HasField("end"):
        return _UNKNOWN
    usage = logged.end.usage
    return Ended(
        _FINISH_REASONS.get(logged.end.finish_reason, FinishReason.ERROR),
        TokenUsage(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens),
    )


def _written(logged: generation_log_pb2.LoggedEvent) -> Written:
    pieces = tuple(GeneratedPiece(piece.text, tuple(piece.token_ids)) for piece in logged.written)
    if logged.token_ids:
        pieces = (GeneratedPiece(logged.event.delta.text, tuple(logged.token_ids)),)
    return Written(
        pieces=pieces,
        tokens=logged.written_tokens,
        replaced=tuple(Replacement(r.start, r.end, r.text, r.category) for r in logged.replaced),
    )
