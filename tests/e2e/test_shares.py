"""Links, followed by people without an account."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.mesh_process import MeshProcess

Client = Callable[[], httpx.Client]


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


@pytest.fixture
def stranger(mesh: MeshProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=mesh.url, timeout=60) as http:
        yield http


def say(http: httpx.Client, id_: str, content: str) -> dict[str, Any]:
    body = {"content": content, "model": "synthetic", "sampling": {"max_tokens": 4}}
    answer = http.post(f"/v1/conversations/{id_}/messages", json=body)
    assert answer.status_code == 200, answer.text
    message: dict[str, Any] = answer.json()
    return message


def test_a_link_shows_what_was_said_until_then(client: Client, stranger: httpx.Client) -> None:
    http = client()
    id_ = http.post("/v1/conversations", json={"title": "Trees", "system_prompt": "a secret"}).json()["id"]
    first = say(http, id_, "first question")
    made = http.post(f"/v1/conversations/{id_}:share", json={})
    assert made.status_code == 200, made.text
    token = made.json()["token"]
    say(http, id_, "second question")

    seen = stranger.get(f"/v1/shared/{token}")
    assert seen.status_code == 200, seen.text
    shared = seen.json()
    assert [message["content"] for message in shared["messages"]] == ["first question", first["content"]]
    assert shared["title"] == "Trees"
    for hidden in (id_, first["id"], first["generation_id"], "a secret", "second question"):
        assert hidden not in seen.text

    page = stranger.get(f"/v1/shared/{token}", params={"page_size": 1}).json()
    rest = stranger.get(f"/v1/shared/{token}", params={"page_size": 1, "page_token": page["next_page_token"]}).json()
    assert page["messages"] + rest["messages"] == shared["messages"]
    assert rest["next_page_token"] == ""

    # To go on with it takes an account.
    assert stranger.post(f"/v1/shared/{token}:continue", json={}).status_code == 401
    other = client()
    copy = other.post(f"/v1/shared/{token}:continue", json={"request_id": str(uuid.uuid4())})
    assert copy.status_code == 200, copy.text
    assert (copy.json()["message_count"], copy.json()["title"]) == (2, "Trees")
    say(other, copy.json()["id"], "a question of theirs")
    assert http.get(f"/v1/conversations/{id_}").json()["message_count"] == 4

    assert [share["token"] for share in http.get("/v1/shares").json()["shares"]] == [token]
    assert other.delete(f"/v1/shares/{token}").status_code == 404
    assert http.delete(f"/v1/shares/{token}").status_code == 200
    gone = stranger.get(f"/v1/shared/{token}")
    assert (gone.status_code, gone.json()["details"][0]["reason"]) == (404, "SHARE_NOT_FOUND")
    assert other.get(f"/v1/conversations/{copy.json()['id']}").json()["message_count"] == 4


def test_all_links_go_at_once(client: Client, stranger: httpx.Client) -> None:
    http = client()
    id_ = http.post("/v1/conversations", json={}).json()["id"]
    say(http, id_, "question")
    tokens = [http.post(f"/v1/conversations/{id_}:share", json={}).json()["token"] for _ in range(2)]
    assert [stranger.get(f"/v1/shared/{token}").status_code for token in tokens] == [200, 200]
    assert http.post(f"/v1/conversations/{id_}:unshare", json={}).status_code == 200
    assert [stranger.get(f"/v1/shared/{token}").status_code for token in tokens] == [404, 404]


def test_a_branch_outlives_its_original(client: Client) -> None:
    http = client()
    id_ = http.post("/v1/conversations", json={"title": "Trees"}).json()["id"]
    first = say(http, id_, "first question")
    say(http, id_, "second question")
    request = {"message_id": first["id"], "request_id": str(uuid.uuid4())}
    copies = [http.post(f"/v1/conversations/{id_}:branch", json=request) for _ in range(2)]
    assert [copy.status_code for copy in copies] == [200, 200], copies[0].text
    copy = copies[0].json()
    assert copies[1].json()["id"] == copy["id"]
    assert http.delete(f"/v1/conversations/{id_}").status_code == 200
    say(http, copy["id"], "another second question")
    listed = http.get(f"/v1/conversations/{copy['id']}/messages").json()["messages"]
    assert [m["content"] for m in listed[:3]] == ["first question", first["content"], "another second question"]
