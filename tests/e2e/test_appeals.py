"""A user appeals, a person decides, and the message changes: through the edge and with the whole mesh behind it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.mesh_process import MeshProcess, eventually

REFUSED = "CHATMESH-TEST-BLOCK-7f3a, says the film."
MODEL = "synthetic-fast"


def newest(http: httpx.Client, id_: str) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = http.get(f"/v1/conversations/{id_}/messages").json()["messages"]
    return messages


def reason(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["details"][0]["reason"]


@pytest.fixture
def http(mesh: MeshProcess) -> Iterator[httpx.Client]:
    """A client of a user whom nobody else is."""
    token = mesh.token(user=f"user-{uuid.uuid4()}")
    with httpx.Client(base_url=mesh.url, headers={"authorization": f"Bearer {token}"}, timeout=60) as client:
        yield client


@pytest.fixture
def reviewer(mesh: MeshProcess) -> Any:
    def run(*words: str) -> str:
        return mesh.chatmesh("moderation", *words, "--as", "rita").stdout

    return run


def test_a_person_lets_pass_what_the_policy_refused(http: httpx.Client, reviewer: Any) -> None:
    id_ = http.post("/v1/conversations", json={"model": MODEL}).json()["id"]
    path = f"/v1/conversations/{id_}/messages"
    assert reason(http.post(path, json={"content": REFUSED})) == (400, "CONTENT_BLOCKED")
    question, answer = newest(http, id_)
    assert (question["content"], question["status"]) == (REFUSED, "MESSAGE_STATUS_BLOCKED")
    event = question["error"]["metadata"]["event_id"]
    assert answer["error"]["metadata"]["event_id"] == event
    # It is written down a moment after it was decided.
    appeal = f"{path}/{question['id']}:appeal"
    appealed = eventually(lambda: http.post(appeal, json={"appeal": "It is a quote."}), lambda r: r.status_code != 404)
    assert appealed.json()["id"] == question["id"]
    assert reason(http.post(appeal, json={"appeal": "Really."})) == (400, "WRONG_EVENT_STATE")
    assert "It is a quote." in reviewer("claim", event)
    reviewer("decide", event, "overturn")
    question, _ = eventually(
        lambda: newest(http, id_), lambda messages: messages[0]["status"] == "MESSAGE_STATUS_COMPLETED"
    )
    assert "error" not in question
    # The policy has not changed; the answer comes all the same.
    again = http.post(f"{path}/{question['id']}:regenerate", json={})
    assert again.status_code == 200, again.text
    assert '"completed"' in again.text
    assert newest(http, id_)[1]["status"] == "MESSAGE_STATUS_COMPLETED"


def test_what_nobody_did_anything_about(http: httpx.Client) -> None:
    id_ = http.post("/v1/conversations", json={"model": MODEL}).json()["id"]
    answer = http.post(f"/v1/conversations/{id_}/messages", json={"content": "Hello"}).json()
    path = f"/v1/conversations/{id_}/messages/{answer['id']}:appeal"
    assert reason(http.post(path, json={"appeal": "I do not like it."})) == (404, "EVENT_NOT_FOUND")
    assert reason(http.post(path, json={"appeal": ""})) == (400, "INVALID_FIELD")
    assert http.post(path, json={"appeal": "x"}, headers={"authorization": ""}).status_code == 401
