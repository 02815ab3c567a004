"""Conversations as ChatGPT exports them, oddities included."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.conversation.chat_model import FinishReason, Role
from services.conversation.model import MessageStatus
from services.conversation.transfer.import_chatgpt import read_chatgpt
from services.conversation.transfer.imported import BrokenConversationError, ImportedConversation

Json = dict[str, Any]
T0 = 1_700_000_000.5


def node(id_: str, parent: str | None, role: str = "", text: str | None = None, **message: Any) -> Json:
    """A node; without a role it is empty, as roots are."""
    if not role:
        return {"id": id_, "message": None, "parent": parent, "children": []}
    content = {"content_type": "text", "parts": [id_ if text is None else text]}
    whole = {
        "id": id_,
        "author": {"role": role, "name": None, "metadata": {}},
        "create_time": T0,
        "update_time": None,
        "content": content,
        "status": "finished_successfully",
        "end_turn": True,
        "weight": 1.0,
        "metadata": {},
        "recipient": "all",
        **message,
    }
    return {"id": id_, "message": whole, "parent": parent, "children": []}


def conversation(*nodes: Json, **fields: Any) -> Json:
    mapping = {node["id"]: node for node in nodes}
    for child in nodes:
        if child["parent"] in mapping:
            mapping[child["parent"]]["children"].append(child["id"])
    return {
        "title": "A chat",
        "create_time": T0,
        "update_time": T0 + 60,
        "mapping": mapping,
        "moderation_results": [],
        "current_node": nodes[-1]["id"],
        "conversation_id": "c-1",
        "default_model_slug": "gpt-4o",
        **fields,
    }


def tree(read: ImportedConversation) -> list[tuple[str, str | None]]:
    """The texts, and what each follows."""
    texts = [message.content for message in read.messages]
    return [(text, texts[p] if p >= 0 else None) for text, p in zip(texts, read.parents, strict=True)]


def test_a_chat() -> None:
    read = read_chatgpt(
        conversation(
            node("root", None),
            node("sys", "root", "system", "", weight=0.0),
            node("q1", "sys", "user"),
            node(
                "a1",
                "q1",
                "assistant",
                create_time=T0 + 5,
                metadata={"model_slug": "gpt-4o", "finish_details": {"type": "stop", "stop_tokens": [1]}},
            ),
            is_archived=True,
        )
    )
    assert tree(read) == [("q1", None), ("a1", "q1")]
    question, answer = read.messages
    assert (question.role, question.model, question.finish_reason) == (Role.USER, "", FinishReason.NONE)
    assert (answer.role, answer.model, answer.finish_reason) == (Role.ASSISTANT, "gpt-4o", FinishReason.STOP)
    assert answer.created_at == datetime.fromtimestamp(T0 + 5, UTC)
    assert (read.source_id, read.title, read.current) == ("c-1", "A chat", 1)
    assert read.updated_at == datetime.fromtimestamp(T0 + 60, UTC)
    assert (read.archived, read.pinned) == (True, False)
    # Its models are none of ours.
    assert read.model == ""


def test_all_branches_are_kept_and_the_shown_one_is_shown() -> None:
    read = read_chatgpt(
        conversation(
            node("root", None),
            node("q1", "root", "user", create_time=T0),
            node("a1", "q1", "assistant", create_time=T0 + 1),
            node("q1b", "root", "user", create_time=T0 + 2),
            node("a1b", "q1b", "assistant", create_time=T0 + 3),
            node("a1c", "q1b", "assistant", create_time=T0 + 4),
            current_node="a1b",
        )
    )
    assert tree(read) == [("q1", None), ("a1", "q1"), ("q1b", None), ("a1b", "q1b"), ("a1c", "q1b")]
    assert read.messages[read.current].content == "a1b"


def test_what_was_not_shown_is_left_out_and_its_children_joined() -> None:
    hidden = {"is_visually_hidden_from_conversation": True}
    read = read_chatgpt(
        conversation(
            node("root", None),
            node("s", "root", "system", "You are"),
            node("profile", "s", "user", metadata=hidden),
            node("q1", "profile", "user"),
            node("call", "q1", "assistant", recipient="browser"),
            node("result", "call", "tool"),
            node(
                "thoughts", "result", "assistant", content={"content_type": "thoughts", "thoughts": [{"content": "x"}]}
            ),
            node("recap", "thoughts", "assistant", content={"content_type": "reasoning_recap", "content": "Thought"}),
            node("empty", "recap", "assistant", ""),
            node("a1", "empty", "assistant"),
            node("image", "a1", "tool", content={"content_type": "multimodal_text", "parts": [{"asset": 1}]}),
        )
    )
    assert tree(read) == [("q1", None), ("a1", "q1")]
    assert read.current == 1


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"content_type": "text", "parts": ["a", "b"]}, "a\n\nb"),
        ({"content_type": "text", "parts": None}, None),
        ({"content_type": "text"}, None),
        ({"content_type": "text", "parts": [None, "", 7, "a"]}, "a"),
        ({"content_type": "code", "language": "python", "text": "print(1)"}, "print(1)"),
        (
            {"content_type": "multimodal_text", "parts": [{"content_type": "image_asset_pointer"}, "what is it?"]},
            "what is it?",
        ),
        ({"content_type": "multimodal_text", "parts": [{"content_type": "audio_transcription", "text": "hi"}]}, "hi"),
        ({"content_type": "text", "parts": "a"}, None),
        ({"content_type": "text", "parts": ["nul \0 half \ud800"]}, "nul \ufffd half \ufffd"),
        (None, None),
        ("a", None),
    ],
)
def test_where_the_text_stands(content: object, expected: str | None) -> None:
    read = read_chatgpt(conversation(node("q1", None, "user"), node("a1", "q1", "assistant", content=content)))
    assert [message.content for message in read.messages[1:]] == ([] if expected is None else [expected])


@pytest.mark.parametrize(
    ("end", "status", "reason"),
    [
        ("stop", MessageStatus.COMPLETED, FinishReason.STOP),
        ("max_tokens", MessageStatus.COMPLETED, FinishReason.LENGTH),
        ("interrupted", MessageStatus.STOPPED, FinishReason.CANCELLED),
        ("something new", MessageStatus.COMPLETED, FinishReason.STOP),
        (None, MessageStatus.COMPLETED, FinishReason.STOP),
        ([], MessageStatus.COMPLETED, FinishReason.STOP),
    ],
)
def test_how_an_answer_ended(end: object, status: MessageStatus, reason: FinishReason) -> None:
    metadata = {"finish_details": {"type": end}}
    [answer] = read_chatgpt(conversation(node("a1", None, "assistant", metadata=metadata))).messages
    assert (answer.status, answer.finish_reason) == (status, reason)


def test_times_that_are_missing_come_from_what_is_there() -> None:
    read = read_chatgpt(
        conversation(
            node("q1", None, "user", create_time=None),
            node("a1", "q1", "assistant", create_time=T0 + 9),
            node("q2", "a1", "user", create_time=None),
            node("a2", "q2", "assistant", create_time="soon"),
            node("q3", "a2", "user", create_time=1e300),
            update_time=None,
        )
    )
    assert [message.created_at.timestamp() - T0 for message in read.messages] == [0, 9, 9, 9, 9]
    assert read.updated_at.timestamp() == T0 + 9
    nothing = read_chatgpt(conversation(node("q1", None, "user", create_time=None), create_time=None, update_time=None))
    assert nothing.created_at == nothing.messages[0].created_at == datetime.fromtimestamp(0, UTC)


def test_a_chain_that_is_deeper_than_recursion() -> None:
    nodes = [node(str(n), str(n - 1) if n else None, ("user", "assistant")[n % 2]) for n in range(50_000)]
    read = read_chatgpt(conversation(*nodes))
    assert list(read.parents) == list(range(-1, 49_999))
    assert read.current == 49_999


def test_names_without_a_conversation_id() -> None:
    nodes = node("q1", None, "user"), node("a1", "q1", "assistant")
    assert read_chatgpt(conversation(*nodes, conversation_id=None, id="old")).source_id == "old"
    assert read_chatgpt(conversation(*nodes, conversation_id=None)).source_id == "a1"
    lost = read_chatgpt(conversation(*nodes, conversation_id=None, current_node=None))
    assert (lost.source_id, lost.current) == ("a1", 1)


@pytest.mark.parametrize(
    "source",
    [
        None,
        [],
        "x",
        {},
        {"mapping": []},
        {"mapping": {}},
        {"mapping": {"a": None}},
        conversation(node("root", None)),
        conversation(node("a", "b", "user"), node("b", "a", "assistant")),
        conversation(node("q1", None, "user", "x" * 1_000_001)),
    ],
)
def test_what_is_no_conversation(source: Any) -> None:
    with pytest.raises(BrokenConversationError):
        read_chatgpt(source)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)
FIELDS = ("title", "create_time", "current_node", "conversation_id", "is_archived")
KEYS = ("author", "content", "create_time", "metadata", "recipient", "weight", "id")


@given(
    st.dictionaries(st.sampled_from(KEYS), values),
    st.dictionaries(
        st.sampled_from(("title", "create_time", "current_node", "conversation_id", "is_archived")), values
    ),
    values,
)
def test_anything_is_read_or_refused(message: Json, fields: Json, parent: Any) -> None:
    whole = conversation(node("q1", None, "user"), node("a1", "q1", "assistant", **message))
    whole["mapping"]["a1"]["parent"] = parent
    read = read_chatgpt(whole | fields)
    assert len(read.messages) in (1, 2)
