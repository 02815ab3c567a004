"""Everything on one stream, as an SDK client holds it, through the edge."""

from __future__ import annotations

import queue
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from chatmesh.conversation.v1 import conversation_pb2
from chatmesh.conversation.v1 import conversation_service_pb2 as messages_pb2
from chatmesh.conversation.v1 import generation_service_pb2 as pb2
from chatmesh.conversation.v1.conversation_service_pb2_grpc import ConversationServiceStub
from chatmesh.conversation.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.mesh_process import MeshProcess, eventually

SLOW = "synthetic"
FAST = "synthetic-fast"
TERMINAL = ("completed", "failed")
Metadata = tuple[tuple[str, str], ...]


class Talk:
    """One `Converse` stream."""

    def __init__(self, channel: grpc.Channel, metadata: Metadata) -> None:
        self._requests: queue.Queue[pb2.ConverseRequest | None] = queue.Queue()
        stub = GenerationServiceStub(channel)
        self.call: Any = stub.Converse(iter(self._requests.get, None), metadata=metadata, timeout=60)

    def say(self, tag: str = "", **request: Any) -> None:
        self._requests.put(pb2.ConverseRequest(tag=tag, **request))

    def acknowledge(self, event: Any) -> None:
        self.say(acknowledge=pb2.ConverseAcknowledge(generation_id=event.generation_id, seq=event.seq))

    def end(self) -> None:
        """There is nothing more to ask."""
        self._requests.put(None)

    def next(self) -> pb2.ConverseResponse:
        response: pb2.ConverseResponse = next(self.call)
        return response

    def rest(self) -> list[pb2.ConverseResponse]:
        return list(self.call)


class User:
    """Somebody with a channel of their own."""

    def __init__(self, mesh: MeshProcess) -> None:
        self.metadata: Metadata = (("authorization", f"Bearer {mesh.token(user=f'user-{uuid.uuid4()}')}"),)
        self.channel = grpc.insecure_channel(mesh.grpc_target)
        self.conversations = ConversationServiceStub(self.channel)
        self.generations = GenerationServiceStub(self.channel)

    def talk(self) -> Talk:
        return Talk(self.channel, self.metadata)

    def create(self, model: str = FAST) -> str:
        request = messages_pb2.CreateConversationRequest(model=model)
        return self.conversations.CreateConversation(request, metadata=self.metadata, timeout=30).id

    def messages(self, conversation_id: str) -> list[conversation_pb2.Message]:
        request = messages_pb2.ListMessagesRequest(conversation_id=conversation_id)
        return list(self.conversations.ListMessages(request, metadata=self.metadata, timeout=30).messages)

    def state(self, generation_id: str) -> int:
        request = pb2.GetGenerationRequest(generation_id=generation_id)
        return self.generations.GetGeneration(request, metadata=self.metadata, timeout=30).state


@pytest.fixture
def user(mesh: MeshProcess) -> Iterator[Callable[[], User]]:
    made: list[User] = []

    def make() -> User:
        made.append(User(mesh))
        return made[-1]

    yield make
    for each in made:
        each.channel.close()


def message(conversation_id: str, content: str = "hello", tokens: int = 4) -> messages_pb2.SendMessageRequest:
    request = messages_pb2.SendMessageRequest(conversation_id=conversation_id, content=content)
    request.sampling.max_tokens = tokens
    return request


def kind_of(response: pb2.ConverseResponse) -> str:
    """What a response is: the kind of its event, or `error` or `stopped`."""
    kind = response.WhichOneof("response")
    return (response.event.WhichOneof("event") if kind == "event" else kind) or ""


def text_of(responses: list[pb2.ConverseResponse]) -> str:
    return "".join(response.event.delta.text for response in responses)


def refusal(call: Callable[[], Any]) -> tuple[str, str]:
    """Code and reason with which a stream ends."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    info = error_details_pb2.ErrorInfo()
    [first, *_] = status_pb2.Status.FromString(details).details
    assert first.Unpack(info)
    return error.code().name, info.reason


def test_two_answers_at_once_each_with_its_tag(user: Callable[[], User]) -> None:
    me = user()
    ids = {"a": me.create(SLOW), "b": me.create(SLOW)}
    talk = me.talk()
    talk.say(open=pb2.ConverseOpen())
    for tag, id_ in ids.items():
        talk.say(tag, send=message(id_, f"question {tag}", tokens=20))
    talk.end()
    responses = talk.rest()
    for tag, id_ in ids.items():
        mine = [response for response in responses if response.tag == tag]
        assert (kind_of(mine[0]), kind_of(mine[-1])) == ("started", "completed")
        assert sum(kind_of(response) in TERMINAL for response in mine) == 1
        positions = [response.event.seq for response in mine]
        assert positions == sorted(set(positions))
        question, answer = me.messages(id_)
        assert (question.content, answer.content) == (f"question {tag}", text_of(mine))
    assert {response.tag for response in responses} == set(ids)


def test_a_message_is_edited_and_its_answer_written_anew(user: Callable[[], User]) -> None:
    me = user()
    id_ = me.create()
    talk = me.talk()

    def turn(**request: Any) -> conversation_pb2.Message:
        tag = str(uuid.uuid4())
        talk.say(tag, **request)
        while kind_of(response := talk.next()) != "completed":
            assert (response.tag, response.WhichOneof("response")) == (tag, "event")
        return response.event.completed.message

    first = turn(send=message(id_))
    edit = messages_pb2.EditMessageRequest(conversation_id=id_, message_id=first.parent_id, content="edited")
    edited = turn(edit=edit)
    again = turn(regenerate=messages_pb2.RegenerateMessageRequest(conversation_id=id_, message_id=edited.id))
    talk.end()
    assert talk.rest() == []
    question, answer = me.messages(id_)
    assert (question.content, list(question.sibling_ids)) == ("edited", [first.parent_id, edited.parent_id])
    assert (answer.id, list(answer.sibling_ids)) == (again.id, [edited.id, again.id])


def test_an_answer_is_stopped_on_the_stream(user: Callable[[], User]) -> None:
    me = user()
    talk = me.talk()
    talk.say("a", send=message(me.create(SLOW), tokens=2000))
    responses = [talk.next(), talk.next()]
    generation_id = responses[0].event.generation_id
    talk.say("b", stop=pb2.StopGenerationRequest(generation_id=generation_id))
    talk.end()
    responses += talk.rest()
    [stopped] = [response for response in responses if response.tag == "b"]
    assert (stopped.stopped.id, stopped.stopped.state) == (generation_id, pb2.GENERATION_STATE_STOPPED)
    answer = [response for response in responses if response.tag == "a"]
    assert kind_of(answer[-1]) == "completed"
    assert answer[-1].event.completed.message.status == conversation_pb2.MESSAGE_STATUS_STOPPED
    assert answer[-1].event.completed.message.content == text_of(answer)


def test_a_refused_request_leaves_the_stream_open(user: Callable[[], User]) -> None:
    me, other = user(), user()
    id_, theirs = me.create(), other.create()
    request = messages_pb2.SendMessageRequest(conversation_id=theirs, content="hello")
    foreign = other.conversations.SendMessage(request, metadata=other.metadata, timeout=30)
    unknown = messages_pb2.EditMessageRequest(conversation_id=id_, message_id=str(uuid.uuid4()), content="x")
    talk = me.talk()
    for wanted, request_ in (
        ("CONVERSATION_NOT_FOUND", {"send": message(theirs)}),
        ("CONVERSATION_NOT_FOUND", {"send": message("x")}),
        ("INVALID_FIELD", {"send": message(id_, content=" ")}),
        ("MODEL_NOT_FOUND", {"send": messages_pb2.SendMessageRequest(conversation_id=id_, content="x", model="x")}),
        ("MESSAGE_NOT_FOUND", {"edit": unknown}),
        ("GENERATION_NOT_FOUND", {"watch": pb2.WatchGenerationRequest(generation_id=foreign.generation_id)}),
        ("GENERATION_NOT_FOUND", {"stop": pb2.StopGenerationRequest(generation_id=foreign.generation_id)}),
        ("INVALID_FIELD", {"watch": pb2.WatchGenerationRequest(generation_id="x", after_seq=-1)}),
    ):
        talk.say(wanted, **request_)
        response = talk.next()
        assert (response.tag, kind_of(response), response.error.reason) == (wanted, "error", wanted)
        assert len(response.error.message) > 10
    talk.say("good", send=message(id_))
    talk.end()
    assert kind_of(talk.rest()[-1]) == "completed"


def test_who_does_not_acknowledge_is_sent_no_more_until_they_do(user: Callable[[], User]) -> None:
    me = user()
    id_ = me.create(SLOW)
    talk = me.talk()
    talk.say(open=pb2.ConverseOpen(max_unacknowledged=2))
    talk.say("a", send=message(id_, tokens=40))
    responses = [talk.next(), talk.next()]
    # The answer is not held back, only its events are.
    generation_id = responses[0].event.generation_id
    eventually(lambda: me.state(generation_id), lambda state: state == pb2.GENERATION_STATE_COMPLETED)
    while kind_of(responses[-1]) != "completed":
        talk.acknowledge(responses[-1].event)
        responses.append(talk.next())
    talk.end()
    # What had gathered came merged, and not token by token.
    assert len(responses) <= 20
    assert text_of(responses) == me.messages(id_)[-1].content


def test_a_lost_stream_ends_no_answer(user: Callable[[], User]) -> None:
    me = user()
    id_ = me.create(SLOW)
    talk = me.talk()
    talk.say("a", send=message(id_, tokens=40))
    responses = [talk.next() for _ in range(4)]
    talk.call.cancel()
    last = responses[-1].event
    again = me.talk()
    again.say("b", watch=pb2.WatchGenerationRequest(generation_id=last.generation_id, after_seq=last.seq))
    again.end()
    responses += again.rest()
    assert {response.tag for response in responses[4:]} == {"b"}
    positions = [response.event.seq for response in responses]
    assert positions == sorted(set(positions))
    answer = me.messages(id_)[-1]
    assert (kind_of(responses[-1]), text_of(responses)) == ("completed", answer.content)
    assert answer.usage.completion_tokens == 40


@pytest.mark.parametrize("first", [{}, {"open": pb2.ConverseOpen()}], ids=["empty", "open twice"])
def test_what_comes_out_of_order_ends_the_stream(user: Callable[[], User], first: dict[str, Any]) -> None:
    talk = user().talk()
    talk.say(**first)
    talk.say(open=pb2.ConverseOpen())
    talk.end()
    assert refusal(talk.rest) == ("INVALID_ARGUMENT", "PROTOCOL_VIOLATION")


def test_a_stream_needs_a_token(mesh: MeshProcess) -> None:
    with grpc.insecure_channel(mesh.grpc_target) as channel:
        talk = Talk(channel, ())
        talk.end()
        assert refusal(talk.rest) == ("UNAUTHENTICATED", "UNAUTHENTICATED")
