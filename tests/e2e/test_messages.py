"""The tree of messages, as a client of REST grows it and walks through it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.mesh_process import MeshProcess

Client = Callable[[], httpx.Client]
MODEL = "synthetic-fast"
SHORT = {"max_tokens": 4}


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
def http(client: Client) -> httpx.Client:
    return client()


def ok(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return response.json()


def reason(response: httpx.Response) -> str:
    """The reason of a refusal."""
    found: str = next(d["reason"] for d in response.json()["details"] if d["@type"].endswith("google.rpc.ErrorInfo"))
    return found


def create(http: httpx.Client, **fields: Any) -> str:
    id_: str = ok(http.post("/v1/conversations", json={"model": MODEL, **fields}))["id"]
    return f"/v1/conversations/{id_}"


def say(http: httpx.Client, path: str, content: str, **fields: Any) -> Any:
    """The answer to a message."""
    return ok(http.post(f"{path}/messages", json={"content": content, "sampling": SHORT, **fields}))


def turn(http: httpx.Client, path: str, **fields: Any) -> Any:
    """The answer that a stream ends with, as the stream has it."""
    response = http.post(path, json={"sampling": SHORT, **fields})
    assert response.status_code == 200, response.text
    events = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: ")]
    return events[-1]["completed"]["message"]


def get(http: httpx.Client, path: str, id_: str) -> Any:
    return ok(http.get(f"{path}/messages/{id_}"))


def branch(http: httpx.Client, path: str, **query: Any) -> list[Any]:
    """The messages of a branch, page by page."""
    found: list[Any] = []
    token = ""
    while True:
        page = ok(http.get(f"{path}/messages", params={**query, "page_token": token}))
        found += page["messages"]
        token = page["next_page_token"]
        if not token:
            return found


def ids(messages: list[Any]) -> list[str]:
    return [message["id"] for message in messages]


def test_an_edit_is_another_branch_and_the_old_one_stays(http: httpx.Client) -> None:
    path = create(http)
    first = say(http, path, "first")
    second = say(http, path, "second")
    before = branch(http, path)

    edited = turn(http, f"{path}/messages/{first['parent_id']}:edit", content="another first")
    shown = branch(http, path)
    assert [message["content"] for message in shown] == ["another first", edited["content"]]
    assert [message["depth"] for message in shown] == [1, 2]
    assert [message["sequence"] for message in shown] == [5, 6]
    versions = [first["parent_id"], edited["parent_id"]]
    assert shown[0]["sibling_ids"] == get(http, path, first["parent_id"])["sibling_ids"] == versions
    # The old branch is as it was, but for what it knows of its new sibling.
    old = branch(http, path, leaf_message_id=second["id"])
    assert [{**message, "sibling_ids": []} for message in old] == before
    assert ok(http.get(path))["message_count"] == 6


def test_an_answer_is_written_anew_by_another_model(http: httpx.Client) -> None:
    path = create(http)
    first = say(http, path, "question")
    second = turn(http, f"{path}/messages/{first['id']}:regenerate", model="synthetic")
    # The second answer may be written anew as well, and so may the question be answered.
    third = turn(http, f"{path}/messages/{second['id']}:regenerate")
    fourth = turn(http, f"{path}/messages/{first['parent_id']}:regenerate")
    answers = [first, second, third, fourth]
    assert {answer["parent_id"] for answer in answers} == {first["parent_id"]}
    assert [answer["model"] for answer in answers] == [MODEL, "synthetic", MODEL, MODEL]
    for answer in answers:
        assert get(http, path, answer["id"])["sibling_ids"] == ids(answers)
    assert ids(branch(http, path)) == [first["parent_id"], fourth["id"]]
    assert get(http, path, first["id"])["content"] == first["content"]


def test_a_stream_ends_with_the_message_as_it_is_read_later(http: httpx.Client) -> None:
    path = create(http)
    first = say(http, path, "question")
    second = turn(http, f"{path}/messages/{first['id']}:regenerate")
    assert second == get(http, path, second["id"])
    assert second["sibling_ids"] == [first["id"], second["id"]]


def test_numbers_that_no_enum_has_and_times_that_are_none_are_refused(http: httpx.Client) -> None:
    path = create(http)
    answer = say(http, path, "question")
    for response, field in (
        (http.post(f"{path}/messages/{answer['id']}:rate", json={"rating": "RATING_UP", "reason": 99}), "reason"),
        (http.post(f"{path}/messages", json={"content": "x", "on_busy": 99}), "on_busy"),
        (
            http.get("/v1/conversations:search", params={"query": "x", "start_time.seconds": "-99999999999999"}),
            "start_time",
        ),
        (http.get("/v1/conversations:search", params={"query": "x", "start_time.nanos": "-5"}), "start_time"),
    ):
        assert (response.status_code, reason(response)) == (400, "INVALID_FIELD"), response.text
        assert field in response.json()["message"]


def test_an_empty_model_is_the_one_of_the_mesh(http: httpx.Client) -> None:
    path = create(http)
    assert ok(http.patch(path, json={"model": ""}))["model"] == ""
    assert ok(http.patch("/v1/settings", json={"default_model": ""}))["default_model"] == ""


def test_a_selected_message_is_shown_with_what_follows_it(http: httpx.Client) -> None:
    path = create(http)
    first = say(http, path, "first")
    second = say(http, path, "second")
    edited = turn(http, f"{path}/messages/{first['parent_id']}:edit", content="another first")

    # From the first message down to the newest that follows.
    shown = ok(http.post(f"{path}/messages/{first['parent_id']}:select", json={}))
    assert shown["current_message_id"] == second["id"]
    assert [message["content"] for message in branch(http, path)][::2] == ["first", "second"]
    third = say(http, path, "third")
    assert get(http, path, third["parent_id"])["parent_id"] == second["id"]

    ok(http.post(f"{path}/messages/{edited['id']}:select", json={}))
    other = say(http, path, "third of the other")
    assert get(http, path, other["parent_id"])["parent_id"] == edited["id"]
    ok(http.post(f"{path}/messages/{first['id']}:select", json={}))
    assert ids(branch(http, path))[-1] == third["id"]


def test_a_message_may_follow_any_other(http: httpx.Client) -> None:
    path = create(http)
    first = say(http, path, "first")
    second = say(http, path, "second")
    other = say(http, path, "another second", parent_id=first["id"])
    assert get(http, path, other["parent_id"])["sibling_ids"] == [second["parent_id"], other["parent_id"]]
    assert [message["content"] for message in branch(http, path)][::2] == ["first", "another second"]


def test_the_model_is_told_the_branch_and_not_the_tree(http: httpx.Client) -> None:
    """The synthetic engine says how many messages it was given; a system prompt is one of them."""
    path = create(http, system_prompt="Be brief.")
    telling = {"sampling": {"max_tokens": 24}}
    first = say(http, path, "first", **telling)
    assert "given 2 messages" in first["content"]
    assert "given 4 messages" in say(http, path, "second", **telling)["content"]
    edited = turn(http, f"{path}/messages/{first['parent_id']}:edit", content="another first", **telling)
    assert "given 2 messages" in edited["content"]
    assert "given 4 messages" in say(http, path, "another second", **telling)["content"]
    again = turn(http, f"{path}/messages/{first['id']}:regenerate", **telling)
    assert "given 2 messages" in again["content"]


def test_a_branch_is_listed_in_pages_from_both_ends(http: httpx.Client) -> None:
    path = create(http)
    answers = [say(http, path, f"question {number}") for number in range(4)]
    turn(http, f"{path}/messages/{answers[1]['parent_id']}:edit", content="elsewhere")
    whole = branch(http, path, leaf_message_id=answers[-1]["id"])
    assert [message["depth"] for message in whole] == list(range(1, 9))
    for size in (1, 3, 200):
        query = {"leaf_message_id": answers[-1]["id"], "page_size": size}
        assert branch(http, path, **query) == whole
        assert branch(http, path, order="MESSAGE_ORDER_NEWEST_FIRST", **query) == whole[::-1]
    # A branch may end anywhere, also in a question.
    assert branch(http, path, leaf_message_id=answers[1]["parent_id"]) == whole[:3]


def test_a_copy_has_its_branch_and_no_other(http: httpx.Client) -> None:
    path = create(http, title="Trees", system_prompt="Be brief.")
    first = say(http, path, "first")
    say(http, path, "second")
    edited = turn(http, f"{path}/messages/{first['parent_id']}:edit", content="another first")
    made = ok(http.post(f"{path}:branch", json={"message_id": first["id"], "title": "Copy"}))
    assert (made["title"], made["system_prompt"], made["model"]) == ("Copy", "Be brief.", MODEL)
    assert path.endswith(made["source_conversation_id"])
    copied = branch(http, f"/v1/conversations/{made['id']}")
    assert [message["content"] for message in copied] == ["first", first["content"]]
    assert [message["sibling_ids"] for message in copied] == [[], []]
    assert not set(ids(copied)) & {first["id"], first["parent_id"]}
    # Without a message it is the branch that is shown.
    made = ok(http.post(f"{path}:branch", json={}))
    copied = branch(http, f"/v1/conversations/{made['id']}")
    assert [message["content"] for message in copied] == ["another first", edited["content"]]


def test_edits_at_once_are_each_a_version(http: httpx.Client, client: Client) -> None:
    path = create(http)
    first = say(http, path, "question")
    edit = f"{path}/messages/{first['parent_id']}:edit"

    def version(number: int) -> Any:
        return turn(http, edit, content=f"version {number}", on_busy="ON_BUSY_QUEUE")

    with ThreadPoolExecutor(6) as pool:
        edited = list(pool.map(version, range(6)))
    versions = get(http, path, first["parent_id"])["sibling_ids"]
    assert versions[0] == first["parent_id"]
    assert sorted(versions[1:]) == sorted(answer["parent_id"] for answer in edited)
    contents = [get(http, path, id_)["content"] for id_ in versions[1:]]
    assert sorted(contents) == [f"version {number}" for number in range(6)]


def test_an_edit_that_is_sent_again_is_one(http: httpx.Client) -> None:
    path = create(http)
    first = say(http, path, "question")
    request = {"content": "edited", "request_id": str(uuid.uuid4()), "sampling": SHORT}
    edit = f"{path}/messages/{first['parent_id']}:edit"
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: turn(http, edit, **request), range(4)))
    assert len(set(ids(answers))) == 1
    assert len(get(http, path, first["parent_id"])["sibling_ids"]) == 2
    # The same id for anything else is refused.
    for suffix, body in (
        (f"messages/{first['parent_id']}:edit", {**request, "content": "other"}),
        (f"messages/{first['id']}:regenerate", {"request_id": request["request_id"]}),
        ("messages", request),
    ):
        response = http.post(f"{path}/{suffix}", json=body)
        assert (response.status_code, reason(response)) == (409, "REQUEST_ID_REUSED")


def test_only_what_can_be_edited_is_edited(http: httpx.Client) -> None:
    path = create(http)
    answer = say(http, path, "question")
    response = http.post(f"{path}/messages/{answer['id']}:edit", json={"content": "mine"})
    assert (response.status_code, reason(response)) == (400, "WRONG_MESSAGE_ROLE")
    response = http.post(f"{path}/messages/{answer['parent_id']}:edit", json={"content": " "})
    assert (response.status_code, reason(response)) == (400, "INVALID_FIELD")
    assert ok(http.get(path))["message_count"] == 2


@pytest.mark.parametrize("kind", ["none", "garbage", "of another conversation", "of another user"])
def test_a_message_that_is_elsewhere_is_not_found(http: httpx.Client, client: Client, kind: str) -> None:
    path = create(http)
    say(http, path, "question")
    owner = client() if kind == "of another user" else http
    id_ = {"none": str(uuid.uuid4()), "garbage": "x"}.get(kind) or say(owner, create(owner), "elsewhere")["id"]
    for method, suffix, body in (
        ("GET", f"/messages/{id_}", None),
        ("GET", f"/messages?leaf_message_id={id_}", None),
        ("POST", f"/messages/{id_}:edit", {"content": "x"}),
        ("POST", f"/messages/{id_}:regenerate", {}),
        ("POST", f"/messages/{id_}:select", {}),
        ("POST", f"/messages/{id_}:rate", {"rating": "RATING_UP"}),
        ("POST", "/messages", {"content": "x", "parent_id": id_}),
        ("POST", ":branch", {"message_id": id_}),
        ("POST", ":share", {"message_id": id_}),
    ):
        response = http.request(method, path + suffix, json=body)
        assert (response.status_code, reason(response)) == (404, "MESSAGE_NOT_FOUND"), suffix
    assert ok(http.get(path))["message_count"] == 2


def test_the_tree_of_another_user_is_not_found(http: httpx.Client, client: Client) -> None:
    path = create(http)
    answer = say(http, path, "question")
    other = client()
    for method, suffix, body in (
        ("GET", f"/messages/{answer['id']}", None),
        ("POST", f"/messages/{answer['parent_id']}:edit", {"content": "x"}),
        ("POST", f"/messages/{answer['id']}:regenerate", {}),
        ("POST", f"/messages/{answer['id']}:select", {}),
        ("POST", f"/messages/{answer['id']}:rate", {"rating": "RATING_UP"}),
        ("POST", ":branch", {}),
        ("POST", ":share", {}),
        ("POST", ":unshare", {}),
        ("POST", ":undelete", {}),
    ):
        response = other.request(method, path + suffix, json=body)
        assert (response.status_code, reason(response)) == (404, "CONVERSATION_NOT_FOUND"), suffix
