"""The mesh from outside, as anybody would use it: through the edge, with the real model."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.mesh_process import MeshProcess

TERMINAL = ("completed", "failed")
Client = Callable[..., httpx.Client]


@pytest.fixture
def client(mesh: MeshProcess) -> Iterator[Client]:
    """Makes an HTTP client of a user; by default one whom nobody else is."""
    made: list[httpx.Client] = []

    def make(user: str = "", tier: str = "enterprise") -> httpx.Client:
        token = mesh.token(user=user or f"user-{uuid.uuid4()}", tier=tier)
        http = httpx.Client(base_url=mesh.url, headers={"authorization": f"Bearer {token}"}, timeout=60)
        made.append(http)
        return http

    yield make
    for http in made:
        http.close()


def create(http: httpx.Client, **fields: Any) -> str:
    made = http.post("/v1/conversations", json=fields)
    assert made.status_code == 200, made.text
    id_: str = made.json()["id"]
    return id_


def stream(http: httpx.Client, conversation_id: str, **body: Any) -> list[dict[str, Any]]:
    """The events of a turn, as sent."""
    path = f"/v1/conversations/{conversation_id}/messages:stream"
    with http.stream("POST", path, json=body) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        return [json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: ")]


def text_of(events: list[dict[str, Any]]) -> str:
    return "".join(event["delta"]["text"] for event in events if "delta" in event)


def test_a_chat_answers(client: Client) -> None:
    http = client()
    id_ = create(http, title="first")
    answer = http.post(f"/v1/conversations/{id_}/messages", json={"content": "Say hello.", "sampling": {"seed": 1}})
    assert answer.status_code == 200, answer.text
    message = answer.json()
    assert message["role"] == "ROLE_ASSISTANT"
    assert message["content"].strip()
    assert message["usage"]["completion_tokens"] > 0
    assert message["route"]["engine"] == "llama_cpp"


def test_a_stream_brings_many_pieces_and_one_terminal_event(client: Client) -> None:
    http = client()
    id_ = create(http)
    events = stream(http, id_, content="Count from 1 to 10.", sampling={"max_tokens": 48})
    assert "started" in events[0]
    assert sum("delta" in event for event in events) >= 5
    assert [any(kind in event for kind in TERMINAL) for event in events] == [False] * (len(events) - 1) + [True]
    assert len({event["generation_id"] for event in events}) == 1
    positions = [event["seq"] for event in events]
    assert positions == sorted(set(positions))
    assert events[-1]["completed"]["message"]["content"] == text_of(events)


def test_a_name_is_remembered_in_its_conversation_and_in_no_other(client: Client) -> None:
    http = client()
    sampling = {"temperature": 0, "max_tokens": 40}
    here, elsewhere = create(http), create(http)
    for id_, content in ((here, "My name is Alice."), (elsewhere, "Good morning.")):
        assert http.post(
            f"/v1/conversations/{id_}/messages", json={"content": content, "sampling": sampling}
        ).is_success

    def ask(id_: str) -> str:
        question = {"content": "What is my name?", "sampling": sampling}
        answer: str = http.post(f"/v1/conversations/{id_}/messages", json=question).json()["content"]
        return answer

    assert "Alice" in ask(here)
    assert "Alice" not in ask(elsewhere)


def test_a_burst_is_answered_with_429_and_retry_after(client: Client) -> None:
    http = client(tier="free")
    answers = [http.get("/v1/conversations") for _ in range(120)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert answers[0].status_code == 200
    assert refused
    assert int(refused[0].headers["retry-after"]) >= 1
    assert reason(refused[0]) == "RATE_LIMITED"
    # Others are not concerned.
    assert client(tier="free").get("/v1/conversations").status_code == 200


def reason(response: httpx.Response) -> str:
    """Reason of an error in the native surface."""
    details = response.json()["details"]
    found: str = next(d["reason"] for d in details if d["@type"].endswith("google.rpc.ErrorInfo"))
    return found


def test_the_conversation_of_another_user_is_not_found(client: Client) -> None:
    id_ = create(client())
    other = client()
    for response in (
        other.get(f"/v1/conversations/{id_}"),
        other.get(f"/v1/conversations/{id_}/messages"),
        other.patch(f"/v1/conversations/{id_}", json={"title": "mine"}),
        other.delete(f"/v1/conversations/{id_}"),
        other.post(f"/v1/conversations/{id_}/messages", json={"content": "hello"}),
        other.post(f"/v1/conversations/{id_}/messages:stream", json={"content": "hello"}),
    ):
        assert response.status_code == 404
        assert reason(response) == "CONVERSATION_NOT_FOUND"


@pytest.mark.parametrize(
    ("body", "status", "wanted"),
    [
        ({"content": ""}, 400, "INVALID_FIELD"),
        ({"content": "x" * 100_001}, 400, "INVALID_FIELD"),
        ({"content": "hello", "model": "gpt-9"}, 404, "MODEL_NOT_FOUND"),
        ({"content": "hello", "sampling": {"temperature": 9}}, 400, "INVALID_FIELD"),
        ({"content": "CHATMESH-TEST-BLOCK-7f3a"}, 400, "CONTENT_BLOCKED"),
    ],
    ids=["empty", "too long", "unknown model", "bad sampling", "blocked"],
)
@pytest.mark.parametrize("suffix", ["", ":stream"])
def test_bad_input_gets_the_right_status_and_a_message_that_helps(
    client: Client, body: dict[str, Any], status: int, wanted: str, suffix: str
) -> None:
    http = client()
    response = http.post(f"/v1/conversations/{create(http)}/messages{suffix}", json=body)
    assert response.status_code == status
    assert reason(response) == wanted
    assert len(response.json()["message"]) > 10


@pytest.mark.parametrize("data", [b"{", b"not json", b'{"content": 7'])
def test_bad_json_is_400(client: Client, data: bytes) -> None:
    http = client()
    response = http.post(
        f"/v1/conversations/{create(http)}/messages", content=data, headers={"content-type": "application/json"}
    )
    assert response.status_code == 400
    assert response.json()["message"]


def test_a_token_must_be_good(mesh: MeshProcess, client: Client) -> None:
    good = client().headers["authorization"]
    expired = f"Bearer {mesh.chatmesh('token', '--user', 'u', '--ttl', '1s').stdout.strip()}"
    head, body, signature = good.split(".")
    forged = f"{head}.{body}.{'A' * len(signature)}"
    for wrong in (None, "Bearer nonsense", forged):
        headers = {"authorization": wrong} if wrong else {}
        response = httpx.get(f"{mesh.url}/v1/conversations", headers=headers)
        assert response.status_code == 401
        assert reason(response) == "UNAUTHENTICATED"
        assert response.json()["message"]
    from tests.mesh_process import eventually

    late = eventually(
        lambda: httpx.get(f"{mesh.url}/v1/conversations", headers={"authorization": expired}),
        lambda response: response.status_code == 401,
        # Clocks may differ by a minute; until then an expired token is still good.
        within_s=90,
    )
    assert "expired" in late.json()["message"].lower()


def test_identity_cannot_be_claimed_by_header(client: Client) -> None:
    victim = f"user-{uuid.uuid4()}"
    id_ = create(client(victim))
    spoof = {"x-chatmesh-user": victim, "X-Chatmesh-User": victim, "x-chatmesh-tier": "enterprise"}
    assert client().get(f"/v1/conversations/{id_}", headers=spoof).status_code == 404


def test_a_redaction_reaches_the_stream_and_the_stored_message(client: Client) -> None:
    """The synthetic engine repeats what it is told, so that an answer can be made to hold what must not be shown."""
    http = client()
    id_ = create(http, model="synthetic-fast")
    events = stream(http, id_, content="my key is AKIAIOSFODNN7EXAMPLE and that is all")
    shown = ""
    for event in events:
        if "delta" in event:
            shown += event["delta"]["text"]
        if "retracted" in event:
            start, end = event["retracted"]["start"], event["retracted"]["end"]
            shown = shown[:start] + event["retracted"]["replacement"] + shown[end:]
    stored = http.get(f"/v1/conversations/{id_}/messages").json()["messages"][-1]["content"]
    assert "AKIAIOSFODNN7EXAMPLE" not in shown
    assert shown == stored


def test_the_turn_goes_on_when_its_client_goes(client: Client) -> None:
    from tests.mesh_process import eventually

    http = client()
    id_ = create(http, model="synthetic")
    path = f"/v1/conversations/{id_}/messages:stream"
    with http.stream("POST", path, json={"content": "hello", "sampling": {"max_tokens": 60}}) as response:
        next(response.iter_lines())
    last = eventually(
        lambda: http.get(f"/v1/conversations/{id_}/messages").json()["messages"][-1],
        lambda message: message["status"] != "MESSAGE_STATUS_IN_PROGRESS",
    )
    assert last["status"] == "MESSAGE_STATUS_COMPLETED"
    assert last["usage"]["completion_tokens"] == 60


def test_usage_is_counted(client: Client) -> None:
    from tests.mesh_process import eventually

    http = client()
    id_ = create(http, model="synthetic-fast")
    answer = http.post(f"/v1/conversations/{id_}/messages", json={"content": "hello"}).json()
    used = eventually(lambda: http.get("/v1/usage").json(), lambda usage: bool(usage["daily"]))
    assert used["daily"][0]["completion_tokens"] == str(answer["usage"]["completion_tokens"])
    assert used["daily"][0]["model"] == "synthetic-fast"


def test_an_answer_is_stored_in_a_conversation_that_is_deleted_under_it(client: Client) -> None:
    http = client()
    id_ = create(http, model="synthetic")
    conversation = f"/v1/conversations/{id_}"
    path = f"{conversation}/messages:stream"
    with http.stream("POST", path, json={"content": "hello", "sampling": {"max_tokens": 40}}) as response:
        lines = response.iter_lines()
        generation_id = json.loads(next(line for line in lines if line.startswith("data: "))[6:])["generation_id"]
        # Another connection of the same user: this one is still reading.
        with httpx.Client(base_url=http.base_url, headers={"authorization": http.headers["authorization"]}) as other:
            assert other.delete(conversation).status_code == 200
            assert reason(other.get(f"/v1/generations/{generation_id}")) == "GENERATION_NOT_FOUND"
            assert reason(other.get(f"{conversation}/messages")) == "CONVERSATION_NOT_FOUND"
        events = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    answer = events[-1]["completed"]["message"]
    assert answer["content"]
    assert http.post(f"{conversation}:undelete", json={}).status_code == 200
    messages = http.get(f"{conversation}/messages").json()["messages"]
    assert [message["content"] for message in messages] == ["hello", answer["content"]]
    assert http.get(f"/v1/generations/{generation_id}").json()["state"] == "GENERATION_STATE_COMPLETED"


@pytest.mark.parametrize("title", ["a\0b", "\0"])
def test_nul_is_refused(client: Client, title: str) -> None:
    response = client().post("/v1/conversations", json={"title": title})
    assert response.status_code == 400
    assert reason(response) == "INVALID_FIELD"


@pytest.mark.parametrize("path", ["/v1/conversations/%ff%fe", "/v1/conversations/%00", "/v1/conversations/urn:uuid:x"])
def test_an_id_that_is_none_is_a_clients_error(client: Client, path: str) -> None:
    assert client().get(path).status_code in (400, 404)


def test_a_system_prompt_is_checked_too(client: Client) -> None:
    http = client()
    id_ = create(http, system_prompt="CHATMESH-TEST-BLOCK-7f3a")
    response = http.post(f"/v1/conversations/{id_}/messages", json={"content": "hello"})
    assert reason(response) == "CONTENT_BLOCKED"


def test_a_refused_message_that_is_sent_again_is_refused_again(client: Client) -> None:
    http = client()
    body = {"content": "CHATMESH-TEST-BLOCK-7f3a", "request_id": str(uuid.uuid4())}
    path = f"/v1/conversations/{create(http)}/messages:stream"
    for _ in range(2):
        assert reason(http.post(path, json=body)) == "CONTENT_BLOCKED"
