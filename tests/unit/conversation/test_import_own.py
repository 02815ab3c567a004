"""Conversations of our own export, and what may be wrong with them."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmesh.conversation.v1 import conversation_pb2
from services.conversation.chat_model import FinishReason, TokenUsage
from services.conversation.model import MessageStatus, Rating
from services.conversation.transfer.import_own import FEEDBACK_REASONS, read_own
from services.conversation.transfer.imported import BrokenConversationError

Json = dict[str, Any]
TIME = "2026-01-02T03:04:05.000006+00:00"


def message(id_: str, parent: str = "", **fields: Any) -> Json:
    return {
        "id": id_,
        "parent_id": parent,
        "role": "user" if id_.startswith("q") else "assistant",
        "content": f"text of {id_}",
        "status": "completed",
        "model": "",
        "created_at": TIME,
        "finish_reason": "",
        "usage": None,
        "error": None,
        "feedback": None,
        **fields,
    }


def conversation(*messages: Json, **fields: Any) -> Json:
    return {
        "id": "c-1",
        "title": "t",
        "model": "auto",
        "system_prompt": "p",
        "pinned": True,
        "archived": False,
        "created_at": TIME,
        "updated_at": TIME,
        "current_message_id": messages[-1]["id"] if messages else "",
        "messages": list(messages),
        **fields,
    }


ANSWER = message(
    "a1",
    "q1",
    model="tiny",
    status="stopped",
    finish_reason="cancelled",
    usage={"prompt_tokens": 3, "completion_tokens": 2, "cached_tokens": 1},
    feedback={"rating": "down", "reason": "style", "comment": "c", "updated_at": TIME},
    error={"code": "UNAVAILABLE", "reason": "ENGINE_FAILED", "message": "m", "metadata": {"model": "tiny"}},
)


def test_all_that_was_exported_is_read() -> None:
    read = read_own(conversation(message("q1"), ANSWER, message("a1b", "q1"), current_message_id="a1"))
    question, answer, _ = read.messages
    assert list(read.parents) == [-1, 0, 0]
    assert (read.current, read.title, read.model, read.system_prompt) == (1, "t", "auto", "p")
    assert (read.pinned, read.archived, read.source_id) == (True, False, "c-1")
    assert read.created_at == datetime(2026, 1, 2, 3, 4, 5, 6, UTC)
    assert (answer.status, answer.finish_reason) == (MessageStatus.STOPPED, FinishReason.CANCELLED)
    assert answer.usage == TokenUsage(3, 2, 1)
    assert answer.feedback is not None
    assert (answer.feedback.rating, answer.feedback.reason, answer.feedback.comment) == (Rating.DOWN, "style", "c")
    assert answer.error is not None
    assert (answer.error.code, answer.error.metadata) == ("UNAVAILABLE", {"model": "tiny"})
    assert question.feedback is None


def test_the_order_of_the_file_is_the_order_of_creation() -> None:
    early = "2020-01-01T00:00:00Z"
    read = read_own(conversation(message("q1"), message("a1", "q1"), message("q1b", created_at=early)))
    assert [m.source_id for m in read.messages] == ["q1", "a1", "q1b"]
    # Written by somebody else, with the first at the end.
    read = read_own(conversation(message("a1", "q1"), message("q1")))
    assert [m.source_id for m in read.messages] == ["q1", "a1"]


def test_little_is_enough() -> None:
    read = read_own({"id": "c", "created_at": TIME, "updated_at": TIME, "messages": []})
    assert (read.current, list(read.messages), read.title) == (-1, [], "")


def test_an_answer_that_was_being_written_is_left_out() -> None:
    read = read_own(conversation(message("q1"), message("a1", "q1", status="in_progress", content="")))
    assert [m.source_id for m in read.messages] == ["q1"]
    assert read.current == 0


def test_reasons_are_those_of_the_contract() -> None:
    reasons = conversation_pb2.FeedbackReason.items()
    names = {name.removeprefix("FEEDBACK_REASON_").lower() for name, value in reasons if value}
    assert names == FEEDBACK_REASONS
    odd = copy.deepcopy(ANSWER)
    odd["feedback"]["reason"] = "a new one"
    read = read_own(conversation(message("q1"), odd)).messages[1]
    assert read.feedback is not None
    assert read.feedback.reason == "other"


@pytest.mark.parametrize(
    "source",
    [
        7,
        {},
        conversation(id=""),
        conversation(id=7),
        conversation(messages=None),
        conversation(title="x" * 257),
        conversation(title=7),
        conversation(created_at="yesterday"),
        conversation(created_at="2026-01-01T00:00:00"),
        conversation(created_at="0001-01-01T00:00:00+23:00"),
        conversation(updated_at=None),
        conversation(message("q1"), message("q1")),
        conversation(message("a1", "q1")),
        conversation(message("q1", "a1"), message("a1", "q1")),
        conversation(message("q1", "q1")),
        conversation(message("q1", role="system")),
        conversation(message("q1", role="wizard")),
        conversation(message("q1", status="sleeping")),
        conversation(message("q1", content=None)),
        conversation(message("q1", content="x" * 1_000_001)),
        conversation(message("q1", created_at=7)),
        conversation(message("q1", usage={"prompt_tokens": -1, "completion_tokens": 0, "cached_tokens": 0})),
        conversation(message("q1", usage={"prompt_tokens": True, "completion_tokens": 0, "cached_tokens": 0})),
        conversation(message("q1", usage={"prompt_tokens": 2**70, "completion_tokens": 0, "cached_tokens": 0})),
        conversation(message("a1", feedback={"rating": "meh", "updated_at": TIME})),
    ],
)
def test_what_is_no_conversation(source: Any) -> None:
    with pytest.raises(BrokenConversationError):
        read_own(source)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@given(st.data())
def test_anything_is_read_or_refused(data: st.DataObject) -> None:
    source = conversation(message("q1"), copy.deepcopy(ANSWER))
    place = data.draw(st.sampled_from([source, *source["messages"], ANSWER["feedback"], ANSWER["error"]]))
    if place in (ANSWER["feedback"], ANSWER["error"]):
        place = source["messages"][1]["feedback" if "rating" in place else "error"]
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(values)
    try:
        read = read_own(source)
    except BrokenConversationError:
        return
    assert len(read.messages) <= 2
