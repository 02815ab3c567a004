"""Late verdicts as they are read, and how a replay tells of what they changed."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from chatmesh.moderation.v1 import late_verdict_pb2
from services.conversation.chat_model import Role
from services.conversation.generation_log import Completed, Delta, Entry, Failed, Retracted, Started
from services.conversation.generation_store import StoredAnswer
from services.conversation.late_convert import late_verdict_from_bytes
from services.conversation.late_model import LateVerdict, Revision, retraction, revision_from_json, revision_to_json
from services.conversation.model import Message, MessageStatus
from services.conversation.watch import replay

RETRACT = late_verdict_pb2.LATE_ACTION_RETRACT
VERDICT = LateVerdict("g", "u", True, False, "violence", "(gone)", "", "e", "p2")
MESSAGE = Message("a", "c", "q", Role.ASSISTANT, "(gone)", MessageStatus.BLOCKED, 2, datetime.now(UTC))
REVISION = Revision("(gone)", "violence", "p2", "e", of_input=False, length=40)


def test_a_verdict_is_read() -> None:
    pb = late_verdict_pb2.LateVerdict(
        generation_id="g",
        user_id="u",
        action=late_verdict_pb2.LATE_ACTION_RETRACT,
        category="violence",
        replacement="(\0)",
        event_id="e",
        policy_version="p2",
    )
    read = late_verdict_from_bytes(pb.SerializeToString())
    # No database holds NUL.
    assert read == LateVerdict("g", "u", True, False, "violence", "(\ufffd)", "", "e", "p2")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xff\xff",
        late_verdict_pb2.LateVerdict(generation_id="g", user_id="u").SerializeToString(),
        late_verdict_pb2.LateVerdict(action=RETRACT, user_id="u").SerializeToString(),
        late_verdict_pb2.LateVerdict(action=RETRACT, generation_id="g").SerializeToString(),
        # An action of a newer server.
        late_verdict_pb2.LateVerdict(generation_id="g", user_id="u").SerializeToString() + b"\x18\x4d",
    ],
)
def test_what_is_no_verdict(data: bytes) -> None:
    with pytest.raises(ValueError, match="it is no verdict|an unknown action|it names no"):
        late_verdict_from_bytes(data)


def test_a_revision_is_stored_whole() -> None:
    for revision in (REVISION, retraction(VERDICT)):
        assert revision_from_json(revision_to_json(revision)) == revision


def test_who_comes_back_is_told_that_nothing_stays() -> None:
    answer = StoredAnswer(MESSAGE, 12, REVISION)
    gone = Entry(11, Retracted(0, 40, "(gone)", "violence"))
    end = Entry(12, Completed(MESSAGE))
    assert replay(answer, 4) == [gone, end]
    # Who saw all of it as it was, too.
    assert replay(answer, 10) == [gone, end]
    assert replay(answer, 11) == [end]
    assert replay(answer, 12) == []


def test_who_comes_first_sees_what_there_is() -> None:
    events = [entry.event for entry in replay(StoredAnswer(MESSAGE, 12, REVISION), 0)]
    assert events == [Started("c", "q", "a"), Delta("(gone)"), Completed(MESSAGE)]


def test_what_was_taken_back_before_the_end_is_not_told_again() -> None:
    revision = retraction(VERDICT)
    assert replay(StoredAnswer(MESSAGE, 12, revision), 4) == [Entry(12, Completed(MESSAGE))]
    failed = StoredAnswer(
        Message("a", "c", "q", Role.ASSISTANT, "", MessageStatus.BLOCKED, 2, datetime.now(UTC), error=revision.error),
        12,
        revision,
    )
    [entry] = replay(failed, 4)
    assert isinstance(entry.event, Failed)
