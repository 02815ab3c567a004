"""Export and import, as a person does it: download a file, upload a file."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.mesh_process import MeshProcess

Client = Callable[[], httpx.Client]
JSON = {"content-type": "application/json"}


@pytest.fixture
def client(mesh: MeshProcess) -> Iterator[Client]:
    """Makes an HTTP client of a new user."""
    made: list[httpx.Client] = []

    def make() -> httpx.Client:
        token = mesh.token(user=f"user-{uuid.uuid4()}")
        made.append(httpx.Client(base_url=mesh.url, headers={"authorization": f"Bearer {token}"}, timeout=60))
        return made[-1]

    yield make
    for http in made:
        http.close()


def chatgpt(conversations: int, messages: int) -> list[dict[str, Any]]:
    """A file as ChatGPT exports it."""
    made = []
    for _ in range(conversations):
        mapping: dict[str, Any] = {"root": {"id": "root", "message": None, "parent": None, "children": []}}
        parent = "root"
        for number in range(messages):
            id_ = str(uuid.uuid4())
            message = {
                "author": {"role": ("user", "assistant")[number % 2]},
                "create_time": 1.7e9 + number,
                "content": {"content_type": "text", "parts": [f"message {number} " + "and more " * 100]},
                "weight": 1.0,
                "metadata": {"model_slug": "gpt-4o"},
                "recipient": "all",
            }
            mapping[id_] = {"id": id_, "message": message, "parent": parent, "children": []}
            parent = id_
        made.append({"title": "Imported", "create_time": 1.7e9, "mapping": mapping, "current_node": parent})
    return made


def test_what_was_exported_is_imported_by_another(client: Client) -> None:
    http, other = client(), client()
    id_ = http.post("/v1/conversations", json={"title": "Trees", "model": "synthetic"}).json()["id"]
    body = {"content": "a question", "sampling": {"max_tokens": 4}}
    answer = http.post(f"/v1/conversations/{id_}/messages", json=body).json()

    file = http.get("/v1/conversations:export")
    assert file.status_code == 200, file.text
    assert file.headers["content-type"] == "application/json"
    [exported] = file.json()["conversations"]
    assert [message["content"] for message in exported["messages"]] == ["a question", answer["content"]]

    report = other.post("/v1/conversations:import", content=file.content, headers=JSON)
    assert report.status_code == 200, report.text
    assert (report.json()["imported"], report.json()["messages"]) == (1, 2)
    [copy] = other.get("/v1/conversations").json()["conversations"]
    assert (copy["title"], copy["message_count"]) == ("Trees", 2)
    going_on = other.post(f"/v1/conversations/{copy['id']}/messages", json=body)
    assert going_on.status_code == 200, going_on.text

    again = other.post("/v1/conversations:import", content=file.content, headers=JSON).json()
    assert (again["imported"], again["skipped"]) == (0, 1)


def test_markdown_is_for_people(client: Client) -> None:
    http = client()
    id_ = http.post("/v1/conversations", json={"title": "Trees", "model": "synthetic"}).json()["id"]
    http.post(f"/v1/conversations/{id_}/messages", json={"content": "a question", "sampling": {"max_tokens": 4}})
    query = {"conversation_id": id_, "format": "EXPORT_FORMAT_MARKDOWN"}
    file = http.get("/v1/conversations:export", params=query)
    assert file.headers["content-type"] == "text/markdown; charset=utf-8"
    assert file.text.startswith("# Trees\n")
    assert "## User\n\na question\n" in file.text
    missing = http.get("/v1/conversations:export", params={"conversation_id": str(uuid.uuid4())})
    assert missing.status_code == 404
    assert missing.json()["details"][0]["reason"] == "CONVERSATION_NOT_FOUND"


def test_a_large_file_of_chatgpt(client: Client) -> None:
    """Larger than any other body that the edge takes, and than any one message of gRPC."""
    http = client()
    data = json.dumps(chatgpt(40, 500)).encode()
    assert 20 * 2**20 < len(data) < 64 * 2**20
    report = http.post("/v1/conversations:import", content=data, headers=JSON)
    assert report.status_code == 200, report.text
    assert (report.json()["imported"], report.json()["messages"], report.json()["problems"]) == (40, 20_000, [])
    exported = http.get("/v1/conversations:export").json()["conversations"]
    assert len(exported) == 40
    assert {len(conversation["messages"]) for conversation in exported} == {500}


def test_a_file_that_is_none(client: Client) -> None:
    http = client()
    for data in (b"hello", b'{"format": "other"}', b'[{"mapping": '):
        refused = http.post("/v1/conversations:import", content=data, headers=JSON)
        assert refused.status_code == 400, refused.text
        assert refused.json()["details"][0]["reason"] == "INVALID_IMPORT"
    report = http.post("/v1/conversations:import", content=b'[{"title": "Broken"}]', headers=JSON).json()
    assert [problem["title"] for problem in report["problems"]] == ["Broken"]
