"""Answers on their way: watched by several, resumed, stopped from elsewhere, waited for."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf.json_format import ParseDict

from chatmesh.conversation.v1 import generation_event_pb2 as event_pb2
from chatmesh.conversation.v1 import generation_service_pb2 as pb2
from chatmesh.conversation.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.mesh_process import MeshProcess

Client = Callable[..., httpx.Client]
Event = dict[str, Any]
# 50 tokens per second, so that there is time to do something meanwhile.
SLOW = "synthetic"
FAST = "synthetic-fast"
SHORT = {"max_tokens": 4}


@pytest.fixture
def client(mesh: MeshProcess) -> Iterator[Client]:
    """Makes an HTTP client: of a new user, or another one of the same user."""
    made: list[httpx.Client] = []

    def make(like: httpx.Client | None = None) -> httpx.Client:
        authorization = like.headers["authorization"] if like else f"Bearer {mesh.token(user=f'user-{uuid.uuid4()}')}"
        made.append(httpx.Client(base_url=mesh.url, headers={"authorization": authorization}, timeout=60))
        return made[-1]

    yield make
    for http in made:
        http.close()


@pytest.fixture
def http(client: Client) -> httpx.Client:
    return client()


def ok(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return response.json()


def reason(response: httpx.Response) -> str:
    """The reason of a refusal."""
    found: str = next(d["reason"] for d in response.json()["details"] if d["@type"].endswith("google.rpc.ErrorInfo"))
    return found


def create(http: httpx.Client, model: str = SLOW) -> str:
    id_: str = ok(http.post("/v1/conversations", json={"model": model}))["id"]
    return f"/v1/conversations/{id_}"


@contextmanager
def answering(http: httpx.Client, path: str, tokens: int, **fields: Any) -> Iterator[Iterator[Event]]:
    """The events of an answer, as they come."""
    body = {"content": "hello", "sampling": {"max_tokens": tokens}, **fields}
    with http.stream("POST", f"{path}/messages:stream", json=body) as response:
        assert response.status_code == 200, response.read()
        yield (json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: "))


def watch(http: httpx.Client, generation_id: str, after_seq: int = 0) -> list[Event]:
    response = http.get(f"/v1/generations/{generation_id}:watch", params={"after_seq": after_seq})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    return [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: ")]


def text_of(events: list[Event]) -> str:
    return "".join(event["delta"]["text"] for event in events if "delta" in event)


def is_whole(events: list[Event]) -> None:
    """Events of one generation, each once, in order, with one terminal event at the end."""
    positions = [event["seq"] for event in events]
    assert positions == sorted(set(positions))
    assert ["completed" in event for event in events] == [False] * (len(events) - 1) + [True]


def listed(http: httpx.Client, **query: Any) -> list[str]:
    """Ids of generations, page by page."""
    found: list[str] = []
    token = ""
    while True:
        page = ok(http.get("/v1/generations", params={**query, "page_token": token}))
        found += [generation["id"] for generation in page["generations"]]
        token = page["next_page_token"]
        if not token:
            return found


def test_all_watchers_see_the_same_from_wherever_they_begin(http: httpx.Client, client: Client) -> None:
    path = create(http)
    with answering(http, path, 60) as stream, ThreadPoolExecutor(4) as pool:
        seen = [next(stream) for _ in range(4)]
        generation_id = seen[0]["generation_id"]
        # They come while the answer is written, from the start and from each position that a client has seen.
        begins = [0, *(event["seq"] for event in seen)]
        watching = [pool.submit(watch, client(http), generation_id, seq) for seq in begins[:4]]
        seen += stream
        is_whole(seen)
        for seq, watched in zip(begins, [each.result() for each in watching], strict=False):
            is_whole(watched)
            assert text_of(watched) == text_of([event for event in seen if event["seq"] > seq])
            assert watched[-1] == seen[-1]
            assert watched[0]["seq"] > seq
    assert text_of(seen) == seen[-1]["completed"]["message"]["content"]
    # And the same when it has long been over, from any position at all.
    for seq in [event["seq"] for event in seen[:-1]]:
        watched = watch(http, generation_id, seq)
        assert text_of(watched) == text_of([event for event in seen if event["seq"] > seq])
        assert watched[-1] == seen[-1]


def test_a_client_that_was_cut_off_goes_on_where_it_was(http: httpx.Client) -> None:
    path = create(http)
    with answering(http, path, 60) as stream:
        seen = [next(stream) for _ in range(5)]
    seen += watch(http, seen[0]["generation_id"], seen[-1]["seq"])
    is_whole(seen)
    [_, answer] = ok(http.get(f"{path}/messages"))["messages"]
    assert (answer["status"], answer["content"]) == ("MESSAGE_STATUS_COMPLETED", text_of(seen))
    assert answer["usage"]["completion_tokens"] == 60


def test_grpc_and_rest_show_the_same(mesh: MeshProcess, http: httpx.Client) -> None:
    with answering(http, create(http, FAST), 30) as stream:
        generation_id = list(stream)[-1]["generation_id"]
    with grpc.insecure_channel(mesh.grpc_target) as channel:
        stub = GenerationServiceStub(channel)
        metadata = (("authorization", http.headers["authorization"]),)
        request = pb2.WatchGenerationRequest(generation_id=generation_id, after_seq=1)
        events: list[event_pb2.GenerationEvent] = list(stub.WatchGeneration(request, metadata=metadata, timeout=30))
    is_whole(rest := watch(http, generation_id, 1))
    # Text that is ready at once is one event, so two watchers may see it cut differently.
    assert text_of(rest) == "".join(event.delta.text for event in events)
    assert ParseDict(rest[-1], event_pb2.GenerationEvent()) == events[-1]
    assert events[0].seq > 1


def test_an_answer_is_stopped_from_another_device(http: httpx.Client, client: Client) -> None:
    path = create(http)
    other = client(http)
    with answering(http, path, 2000, content="a long one") as stream:
        seen = [next(stream) for _ in range(3)]
        generation_id = seen[0]["generation_id"]
        assert listed(other, state="GENERATION_STATE_OPEN") == [generation_id]
        stopped = ok(other.post(f"/v1/generations/{generation_id}:stop", json={}))
        seen += stream
    is_whole(seen)
    message = seen[-1]["completed"]["message"]
    assert (stopped["state"], message["status"]) == ("GENERATION_STATE_STOPPED", "MESSAGE_STATUS_STOPPED")
    assert (message["finish_reason"], message["content"]) == ("FINISH_REASON_CANCELLED", text_of(seen))
    assert ok(http.get(f"{path}/messages/{message['id']}")) == message
    assert listed(http, state="GENERATION_STATE_OPEN") == []
    assert listed(http, state="GENERATION_STATE_STOPPED") == [generation_id]
    # What has ended is returned as it is, whoever asks again.
    assert ok(http.post(f"/v1/generations/{generation_id}:stop", json={})) == stopped
    assert ok(http.get(f"/v1/generations/{generation_id}")) == stopped


def test_generations_are_listed_by_state_and_conversation(http: httpx.Client) -> None:
    ids = []
    paths = [create(http, FAST) for _ in range(2)]
    for path in (*paths, paths[0]):
        with answering(http, path, 4) as stream:
            ids.append(list(stream)[-1]["generation_id"])
    newest_first = ids[::-1]
    assert listed(http) == listed(http, page_size=1) == newest_first
    assert listed(http, state="GENERATION_STATE_COMPLETED", page_size=2) == newest_first
    assert listed(http, state="GENERATION_STATE_FAILED") == []
    assert listed(http, conversation_id=paths[0].rpartition("/")[2]) == [ids[2], ids[0]]
    page = ok(http.get("/v1/generations", params={"page_size": 1}))
    wrong = http.get("/v1/generations", params={"page_token": page["next_page_token"], "state": 1})
    assert (wrong.status_code, reason(wrong)) == (400, "INVALID_PAGE_TOKEN")


def test_who_comes_while_an_answer_is_written_is_told_by_which(http: httpx.Client, client: Client) -> None:
    path = create(http)
    other = client(http)
    with answering(http, path, 2000) as stream:
        first = next(stream)
        generation_id, started = first["generation_id"], first["started"]
        assert listed(other, state="GENERATION_STATE_OPEN") == [generation_id]
        question = f"{path}/messages/{started['user_message_id']}"
        for url, body in (
            (f"{path}/messages", {"content": "x"}),
            (f"{path}/messages:stream", {"content": "x", "on_busy": "ON_BUSY_REFUSE"}),
            (f"{question}:edit", {"content": "x"}),
            (f"{question}:regenerate", {}),
            (f"{path}/messages/{started['message_id']}:rate", {"rating": "RATING_UP"}),
            (f"{path}:branch", {}),
            (f"{path}:share", {}),
        ):
            response = other.post(url, json=body)
            assert (response.status_code, reason(response)) == (400, "CONVERSATION_BUSY"), url
            assert response.json()["details"][0]["metadata"]["generation_id"] == generation_id
        ok(other.post(f"/v1/generations/{generation_id}:stop", json={}))
        assert "completed" in list(stream)[-1]
    assert ok(http.get(path))["message_count"] == 2


def test_who_waits_is_answered_when_the_answer_has_ended(http: httpx.Client, client: Client) -> None:
    path = create(http)
    waiting = {"on_busy": "ON_BUSY_QUEUE", "model": FAST, "sampling": SHORT}
    others = [client(http) for _ in range(2)]
    with answering(http, path, 30) as stream, ThreadPoolExecutor(2) as pool:
        first = [next(stream)]
        bodies = [{"content": content, **waiting} for content in ("second", "third")]
        queued = [
            pool.submit(other.post, f"{path}/messages", json=body) for other, body in zip(others, bodies, strict=True)
        ]
        first += stream
        answers = [ok(each.result()) for each in queued]
    assert first[-1]["completed"]["message"]["status"] == "MESSAGE_STATUS_COMPLETED"
    messages = ok(http.get(f"{path}/messages"))["messages"]
    assert [message["depth"] for message in messages] == list(range(1, 7))
    assert {message["content"] for message in messages[2::2]} == {"second", "third"}
    assert {message["id"] for message in messages[3::2]} == {answer["id"] for answer in answers}


def test_who_stops_waiting_has_sent_nothing(http: httpx.Client, client: Client) -> None:
    path = create(http)
    impatient, patient = client(http), client(http)
    waiting = {"on_busy": "ON_BUSY_QUEUE", "model": FAST, "sampling": SHORT}
    with answering(http, path, 2000) as stream:
        generation_id = next(stream)["generation_id"]
        with pytest.raises(httpx.ReadTimeout):
            impatient.post(f"{path}/messages", json={"content": "never mind", **waiting}, timeout=0.5)
        ok(patient.post(f"/v1/generations/{generation_id}:stop", json={}))
        assert "completed" in list(stream)[-1]
    # It would have been sent before this one.
    ok(patient.post(f"{path}/messages", json={"content": "second", **waiting}))
    messages = ok(http.get(f"{path}/messages"))["messages"]
    assert [message["content"] for message in messages[::2]] == ["hello", "second"]


def test_a_message_that_is_sent_again_meanwhile_is_answered_once(http: httpx.Client, client: Client) -> None:
    path = create(http)
    body = {"content": "once", "request_id": str(uuid.uuid4()), "sampling": {"max_tokens": 30}}
    begun = threading.Barrier(4)

    def send(other: httpx.Client) -> list[Event]:
        begun.wait()
        with answering(other, path, 30, **body) as stream:
            return list(stream)

    with ThreadPoolExecutor(4) as pool:
        seen = list(pool.map(send, [client(http) for _ in range(4)]))
    for events in seen:
        is_whole(events)
        assert events[-1] == seen[0][-1]
        assert text_of(events) == text_of(seen[0])
    assert ok(http.get(path))["message_count"] == 2
    # Also for one who did not stream, and long after.
    assert ok(http.post(f"{path}/messages", json=body)) == seen[0][-1]["completed"]["message"]


@pytest.mark.parametrize("kind", ["none", "garbage", "of another user"])
def test_a_generation_that_is_elsewhere_is_not_found(http: httpx.Client, client: Client, kind: str) -> None:
    id_ = {"none": str(uuid.uuid4()), "garbage": "x"}.get(kind, "")
    if not id_:
        other = client()
        with answering(other, create(other, FAST), 4) as stream:
            id_ = list(stream)[-1]["generation_id"]
    for response in (
        http.get(f"/v1/generations/{id_}"),
        http.get(f"/v1/generations/{id_}:watch"),
        http.post(f"/v1/generations/{id_}:stop", json={}),
    ):
        assert (response.status_code, reason(response)) == (404, "GENERATION_NOT_FOUND")
    assert listed(http) == []


def test_after_the_last_event_there_is_nothing_and_no_further_position(http: httpx.Client) -> None:
    with answering(http, create(http), 30) as stream:
        first = next(stream)
        generation_id = first["generation_id"]
        # While it runs, too.
        ahead = http.get(f"/v1/generations/{generation_id}:watch", params={"after_seq": 2_000_000_000})
        assert (ahead.status_code, reason(ahead)) == (400, "INVALID_FIELD")
        last = list(stream)[-1]["seq"]
    assert watch(http, generation_id, last) == []
    beyond = http.get(f"/v1/generations/{generation_id}:watch", params={"after_seq": last + 1})
    assert (beyond.status_code, reason(beyond)) == (400, "INVALID_FIELD")
    assert f"after_seq must be at most {last}" in beyond.json()["message"]


@pytest.mark.parametrize("after_seq", ["-1", "x", "2147483648"])
def test_a_position_that_is_none_is_refused(http: httpx.Client, after_seq: str) -> None:
    with answering(http, create(http, FAST), 4) as stream:
        generation_id = list(stream)[-1]["generation_id"]
    response = http.get(f"/v1/generations/{generation_id}:watch", params={"after_seq": after_seq})
    assert (response.status_code, reason(response) in ("INVALID_FIELD", "INVALID_REQUEST")) == (400, True)
    assert "after_seq" in response.json()["message"]
