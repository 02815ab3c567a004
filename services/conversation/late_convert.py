"""Between moderation's late verdicts and the model."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from chatmesh.moderation.v1 import late_verdict_pb2
from services.conversation.late_model import LateVerdict


def late_verdict_from_bytes(data: bytes) -> LateVerdict:
    """What an entry of the stream says.

    Raises:
        ValueError: It is no such verdict, or one that nothing can be done about.
    """
    try:
        pb = late_verdict_pb2.LateVerdict.FromString(data)
    except DecodeError as error:
        raise ValueError("it is no verdict") from error
    if pb.action not in (late_verdict_pb2.LATE_ACTION_RETRACT, late_verdict_pb2.LATE_ACTION_RESTORE):
        raise ValueError(f"an unknown action: {pb.action}")
    if not pb.generation_id or not pb.user_id:
        raise ValueError("it names no generation or no user")
    return LateVerdict(
        generation_id=pb.generation_id,
        user_id=pb.user_id,
        retract=pb.action == late_verdict_pb2.LATE_ACTION_RETRACT,
        of_input=pb.input,
        category=pb.category,
        # The database holds no NUL.
        replacement=pb.replacement.replace("\0", "\ufffd"),
        text=pb.text.replace("\0", "\ufffd"),
        event_id=pb.event_id,
        policy_version=pb.policy_version,
    )
