"""What users do with conversations between turns, over REST and through the edge."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.mesh_process import MeshProcess, eventually

Client = Callable[..., httpx.Client]
MODEL = "synthetic-fast"


@pytest.fixture
def client(mesh: MeshProcess) -> Iterator[Client]:
    """Makes an HTTP client of a user whom nobody else is."""
    made: list[httpx.Client] = []

    def make(user: str = "") -> httpx.Client:
        token = mesh.token(user=user or f"user-{uuid.uuid4()}")
        http = httpx.Client(base_url=mesh.url, headers={"authorization": f"Bearer {token}"}, timeout=60)
        made.append(http)
        return http

    yield make
    for http in made:
        http.close()


@pytest.fixture
def http(client: Client) -> httpx.Client:
    return client()


def ok(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return response.json()


def refused(response: httpx.Response, status: int) -> str:
    """The reason of a refusal."""
    assert response.status_code == status, response.text
    found: str = next(d["reason"] for d in response.json()["details"] if d["@type"].endswith("google.rpc.ErrorInfo"))
    return found


def create(http: httpx.Client, **fields: Any) -> str:
    id_: str = ok(http.post("/v1/conversations", json={"model": MODEL, **fields}))["id"]
    return id_


def say(http: httpx.Client, id_: str, content: str, **fields: Any) -> Any:
    body = {"content": content, "sampling": {"max_tokens": 8}, **fields}
    return ok(http.post(f"/v1/conversations/{id_}/messages", json=body))


def change(http: httpx.Client, id_: str, **fields: Any) -> Any:
    return ok(http.patch(f"/v1/conversations/{id_}", json=fields))


def pages(http: httpx.Client, path: str, member: str, **query: Any) -> list[Any]:
    """All of a list, page by page."""
    found: list[Any] = []
    token = ""
    while True:
        page = ok(http.get(path, params={**query, "page_token": token}))
        found += page.get(member, [])
        token = page.get("next_page_token", "")
        if not token:
            return found


def titles(http: httpx.Client, **query: Any) -> list[str]:
    return [c["title"] for c in pages(http, "/v1/conversations", "conversations", **query)]


def search(http: httpx.Client, query: str, **filters: Any) -> list[Any]:
    return pages(http, "/v1/conversations:search", "results", query=query, **filters)


def used(http: httpx.Client) -> Any:
    """What was used, once it is recorded."""
    return eventually(lambda: ok(http.get("/v1/usage")), lambda usage: bool(usage.get("daily")))


def test_a_conversation_is_renamed_pinned_archived_deleted_and_brought_back(http: httpx.Client) -> None:
    ids = {title: create(http, title=title) for title in ("one", "two", "three")}
    assert titles(http) == ["three", "two", "one"]
    assert change(http, ids["one"], title="first", model="synthetic", system_prompt="Be brief.")["title"] == "first"
    assert titles(http, page_size=1) == ["first", "three", "two"]
    assert titles(http, order="CONVERSATION_ORDER_CREATED", page_size=2) == ["three", "two", "first"]

    assert change(http, ids["two"], pinned=True)["pinned"] is True
    assert titles(http) == ["first", "three", "two"]
    assert titles(http, pinned="true") == ["two"]
    assert titles(http, pinned="false") == ["first", "three"]
    change(http, ids["three"], archived=True)
    assert (titles(http), titles(http, archived="true")) == (["first", "two"], ["three"])

    path = f"/v1/conversations/{ids['two']}"
    assert http.delete(path).status_code == 200
    assert titles(http) == ["first"]
    [deleted] = pages(http, "/v1/conversations", "conversations", deleted="true")
    assert deleted["delete_time"] < deleted["purge_time"]
    for response in (
        http.get(path),
        http.delete(path),
        http.patch(path, json={"title": "x"}),
        http.get(f"{path}/messages"),
        http.post(f"{path}/messages", json={"content": "hello"}),
    ):
        assert refused(response, 404) == "CONVERSATION_NOT_FOUND"
    brought_back = ok(http.post(f"{path}:undelete", json={}))
    assert (brought_back["pinned"], "delete_time" in brought_back) == (True, False)
    assert titles(http) == ["first", "two"]


def test_a_page_token_is_good_for_its_list_only(http: httpx.Client) -> None:
    for _ in range(2):
        create(http)
    token = ok(http.get("/v1/conversations", params={"page_size": 1}))["next_page_token"]
    for other in ({"order": "CONVERSATION_ORDER_CREATED"}, {"archived": "true"}, {"deleted": "true"}):
        response = http.get("/v1/conversations", params={"page_token": token, **other})
        assert refused(response, 400) == "INVALID_PAGE_TOKEN"


def test_an_answer_goes_on_in_a_conversation_that_is_deleted_and_brought_back(
    http: httpx.Client, client: Client
) -> None:
    id_ = create(http, model="synthetic")
    body = {"content": "hello", "sampling": {"max_tokens": 30}}
    with http.stream("POST", f"/v1/conversations/{id_}/messages:stream", json=body) as response:
        lines = response.iter_lines()
        next(lines)
        other = httpx.Client(base_url=http.base_url, headers={"authorization": http.headers["authorization"]})
        with other:
            assert other.delete(f"/v1/conversations/{id_}").status_code == 200
        events = [line for line in lines if line.startswith("data: ")]
    assert '"completed"' in events[-1]
    ok(http.post(f"/v1/conversations/{id_}:undelete", json={}))
    messages = ok(http.get(f"/v1/conversations/{id_}/messages"))["messages"]
    assert [message["status"] for message in messages] == ["MESSAGE_STATUS_COMPLETED"] * 2


def test_words_are_found_in_titles_and_messages(http: httpx.Client, client: Client) -> None:
    about, other = create(http, title="Zebra crossings"), create(http, title="something else")
    question = "Where do ZEBRAS sleep? " + "I have been wondering about that for a long time. " * 8
    say(http, about, question)
    say(http, other, "no stripes here")
    results = search(http, "zebra")
    # The synthetic engine repeats what it is told, so an answer may have the word as well.
    mine = [result for result in results if result.get("role") != "ROLE_ASSISTANT"]
    assert [result["conversation"]["id"] for result in mine] == [about, about]
    message, title = mine
    assert (message["role"], title.get("message_id", "")) == ("ROLE_USER", "")
    for result, word in ((message, "ZEBRAS"), (title, "Zebra")):
        [range_] = result["highlights"]
        assert result["snippet"][range_.get("start", 0) : range_["end"]] == word
    assert message["snippet"].endswith("…")
    assert len(message["snippet"]) < len(question)
    assert search(http, "zebra", page_size=1) == results
    assert search(http, "sleep zebra")[0]["conversation"]["id"] == about
    assert search(http, "zebra stripes") == []
    assert search(client(), "zebra") == []

    assert http.delete(f"/v1/conversations/{about}").status_code == 200
    assert search(http, "zebra") == []


def test_a_search_is_narrowed_by_model_and_time(http: httpx.Client) -> None:
    id_ = create(http, title="parrot")
    answer = say(http, id_, "parrot parrot parrot")
    everything = search(http, "parrot")
    answers = search(http, "parrot", model=MODEL)
    assert {result["message_id"] for result in answers} <= {answer["id"]}
    assert search(http, "parrot", model="smollm2-135m") == []
    times = [result["create_time"] for result in everything]
    assert times == sorted(times, reverse=True)
    later = search(http, "parrot", start_time=times[0])
    earlier = search(http, "parrot", end_time=times[0])
    assert (later + earlier, bool(later), bool(earlier)) == (everything, True, True)


@pytest.mark.parametrize("query", ["", " ", "...", "x" * 257])
def test_a_search_for_nothing_is_refused(http: httpx.Client, query: str) -> None:
    assert refused(http.get("/v1/conversations:search", params={"query": query}), 400) == "INVALID_FIELD"


def test_settings_apply_to_all_conversations(http: httpx.Client) -> None:
    assert ok(http.get("/v1/settings")).get("custom_instructions", "") == ""
    before = say(http, create(http), "hello")["usage"]["prompt_tokens"]
    instructions = "Always mention the weather in Lisbon. " * 5
    changed = ok(http.patch("/v1/settings", json={"custom_instructions": instructions}))
    assert (changed["custom_instructions"], bool(changed["update_time"])) == (instructions, True)
    changed = ok(http.patch("/v1/settings", json={"default_model": MODEL}))
    assert (changed["custom_instructions"], changed["default_model"]) == (instructions, MODEL)
    # What the model is told is longer now, in a conversation that names no model as well.
    answer = say(http, create(http, model=""), "hello")
    assert answer["model"] == MODEL
    assert answer["usage"]["prompt_tokens"] >= before + 20
    ok(http.patch("/v1/settings", json={"custom_instructions": ""}))
    assert say(http, create(http), "hello")["usage"]["prompt_tokens"] == before


def test_all_of_a_users_data_is_deleted(http: httpx.Client, client: Client) -> None:
    user = f"user-{uuid.uuid4()}"
    mine, theirs = client(user), http
    for owner in (mine, theirs):
        say(owner, create(owner, title="keepsake"), "hello keepsake")
        ok(owner.patch("/v1/settings", json={"custom_instructions": "be kind"}))
        used(owner)
    spent = used(mine)["tokens_today"]
    for wrong in ({}, {"confirm": "false"}):
        assert refused(mine.delete("/v1/users/me/data", params=wrong), 400) == "INVALID_FIELD"
    assert titles(mine) == ["keepsake"]

    assert ok(mine.delete("/v1/users/me/data", params={"confirm": "true"})) == {"conversations": "1"}
    assert titles(mine) == titles(mine, deleted="true") == search(mine, "keepsake") == []
    assert ok(mine.get("/v1/settings")).get("custom_instructions", "") == ""
    # No record is left, and the quota of the day is not renewed.
    usage = ok(mine.get("/v1/usage"))
    assert (usage.get("daily", []), usage["tokens_today"]) == ([], spent)
    # Whoever comes back begins anew, and nobody else has lost anything.
    say(mine, create(mine, title="again"), "hello")
    assert titles(mine) == ["again"]
    assert titles(theirs) == ["keepsake"]
    assert ok(theirs.get("/v1/settings"))["custom_instructions"] == "be kind"
    assert ok(theirs.get("/v1/usage"))["daily"]


def test_an_answer_that_runs_ends_with_its_users_data_and_leaves_no_record(http: httpx.Client, client: Client) -> None:
    id_ = create(http, model="synthetic")
    body = {"content": "hello", "sampling": {"max_tokens": 4000}}
    with http.stream("POST", f"/v1/conversations/{id_}/messages:stream", json=body) as response:
        lines = response.iter_lines()
        next(lines)
        with httpx.Client(base_url=http.base_url, headers={"authorization": http.headers["authorization"]}) as other:
            deleted = ok(other.delete("/v1/users/me/data", params={"confirm": "true"}, timeout=30))
            assert deleted == {"conversations": "1"}
            # What it used was settled before: it counts for the day, and is recorded under no name.
            usage = ok(other.get("/v1/usage"))
            assert usage.get("daily", []) == []
            assert int(usage["tokens_today"]) > 0
        events = [line for line in lines if line.startswith("data: ")]
    assert '"completed"' in events[-1]
    assert "STOPPED" in events[-1]
    assert titles(http) == titles(http, deleted="true") == []
    assert ok(http.get("/v1/generations")).get("generations", []) == []
