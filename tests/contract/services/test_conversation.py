"""Unary RPCs of Conversation."""

from __future__ import annotations

import uuid
from typing import Any

import grpc
import pytest

from chatmesh.conversation.v1 import conversation_pb2
from chatmesh.conversation.v1 import conversation_service_pb2 as pb
from chatmesh.conversation.v1.conversation_service_pb2_grpc import ConversationServiceStub
from chatmesh.type.v1 import chat_pb2

SERVICE = "conversation"
STUB = ConversationServiceStub


@pytest.fixture
def me() -> dict[str, Any]:
    """Options of a call by a user whom nobody else is."""
    return {"timeout": 60, "metadata": (("x-chatmesh-user", f"user-{uuid.uuid4()}"), ("x-chatmesh-tier", "enterprise"))}


def test_create_get_list_rename_delete(grpc_stub: ConversationServiceStub, me: dict[str, Any], refusal: Any) -> None:
    made = grpc_stub.CreateConversation(pb.CreateConversationRequest(title="first"), **me)
    assert grpc_stub.GetConversation(pb.GetConversationRequest(conversation_id=made.id), **me) == made
    second = grpc_stub.CreateConversation(pb.CreateConversationRequest(title="second"), **me)
    page = grpc_stub.ListConversations(pb.ListConversationsRequest(page_size=1), **me)
    assert [c.id for c in page.conversations] == [second.id]
    rest = grpc_stub.ListConversations(pb.ListConversationsRequest(page_size=1, page_token=page.next_page_token), **me)
    assert [c.id for c in rest.conversations] == [made.id]
    assert not rest.next_page_token
    renamed = grpc_stub.UpdateConversation(pb.UpdateConversationRequest(conversation_id=made.id, title="renamed"), **me)
    assert (renamed.title, renamed.model) == ("renamed", made.model)
    grpc_stub.DeleteConversation(pb.DeleteConversationRequest(conversation_id=made.id), **me)
    code, reason, metadata = refusal(
        grpc_stub.GetConversation, pb.GetConversationRequest(conversation_id=made.id), metadata=me["metadata"]
    )
    assert (code, reason) == (grpc.StatusCode.NOT_FOUND, "CONVERSATION_NOT_FOUND")
    assert metadata == {"conversation_id": made.id}


def test_a_message_is_answered_and_both_are_listed(grpc_stub: ConversationServiceStub, me: dict[str, Any]) -> None:
    made = grpc_stub.CreateConversation(pb.CreateConversationRequest(model="synthetic-fast"), **me)
    answer = grpc_stub.SendMessage(pb.SendMessageRequest(conversation_id=made.id, content="hello"), **me)
    assert answer.status == conversation_pb2.MESSAGE_STATUS_COMPLETED
    assert answer.role == chat_pb2.ROLE_ASSISTANT
    assert answer.route.model == answer.model == "synthetic-fast"
    assert answer.usage.completion_tokens > 0
    listed = grpc_stub.ListMessages(pb.ListMessagesRequest(conversation_id=made.id), **me).messages
    assert [m.content for m in listed] == ["hello", answer.content]
    newest = grpc_stub.ListMessages(
        pb.ListMessagesRequest(conversation_id=made.id, order=pb.MESSAGE_ORDER_NEWEST_FIRST, page_size=1), **me
    )
    assert [m.id for m in newest.messages] == [answer.id]


def test_a_message_that_is_sent_again_is_answered_once(grpc_stub: ConversationServiceStub, me: dict[str, Any]) -> None:
    made = grpc_stub.CreateConversation(pb.CreateConversationRequest(model="synthetic-fast"), **me)
    request = pb.SendMessageRequest(conversation_id=made.id, content="hello", request_id=str(uuid.uuid4()))
    first = grpc_stub.SendMessage(request, **me)
    assert grpc_stub.SendMessage(request, **me) == first
    listed = grpc_stub.ListMessages(pb.ListMessagesRequest(conversation_id=made.id), **me).messages
    assert len(listed) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"content": ""},
        {"content": " \n"},
        {"content": "x" * 100_001},
        {"content": "x", "model": "bad name"},
        {"content": "x", "request_id": "1"},
        {"content": "x", "sampling": chat_pb2.SamplingOptions(temperature=-1)},
        {"content": "x", "sampling": chat_pb2.SamplingOptions(max_tokens=0)},
        {"content": "x", "sampling": chat_pb2.SamplingOptions(stop=["x"] * 9)},
    ],
    ids=str,
)
def test_what_breaks_a_limit_is_refused(
    grpc_stub: ConversationServiceStub, me: dict[str, Any], refusal: Any, wrong: dict[str, Any]
) -> None:
    request = pb.SendMessageRequest(conversation_id=str(uuid.uuid4()), **wrong)
    code, reason, _ = refusal(grpc_stub.SendMessage, request, metadata=me["metadata"])
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")


def test_an_unknown_model_is_refused_and_nothing_is_stored(
    grpc_stub: ConversationServiceStub, me: dict[str, Any], refusal: Any
) -> None:
    made = grpc_stub.CreateConversation(pb.CreateConversationRequest(), **me)
    request = pb.SendMessageRequest(conversation_id=made.id, content="hello", model="gpt-9")
    code, reason, _ = refusal(grpc_stub.SendMessage, request, metadata=me["metadata"])
    assert (code, reason) == (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")
    assert not grpc_stub.ListMessages(pb.ListMessagesRequest(conversation_id=made.id), **me).messages


def test_a_blocked_message_is_refused_and_stored_as_such(
    grpc_stub: ConversationServiceStub, me: dict[str, Any], refusal: Any
) -> None:
    made = grpc_stub.CreateConversation(pb.CreateConversationRequest(), **me)
    request = pb.SendMessageRequest(conversation_id=made.id, content="CHATMESH-TEST-BLOCK-7f3a")
    code, reason, _ = refusal(grpc_stub.SendMessage, request, metadata=me["metadata"])
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "CONTENT_BLOCKED")
    listed = grpc_stub.ListMessages(pb.ListMessagesRequest(conversation_id=made.id), **me).messages
    assert {m.status for m in listed} == {conversation_pb2.MESSAGE_STATUS_BLOCKED}


def test_a_page_token_of_another_list_is_refused(
    grpc_stub: ConversationServiceStub, me: dict[str, Any], refusal: Any
) -> None:
    request = pb.ListConversationsRequest(page_token="bm90IGEgdG9rZW4")
    code, reason, _ = refusal(grpc_stub.ListConversations, request, metadata=me["metadata"])
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN")
