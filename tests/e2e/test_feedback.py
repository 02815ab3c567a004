"""Ratings, as a client gives them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import httpx
import pytest

from tests.mesh_process import MeshProcess


@pytest.fixture
def http(mesh: MeshProcess) -> Iterator[httpx.Client]:
    token = mesh.token(user=f"user-{uuid.uuid4()}")
    with httpx.Client(base_url=mesh.url, headers={"authorization": f"Bearer {token}"}, timeout=60) as client:
        yield client


def test_an_answer_is_rated_and_the_rating_taken_back(http: httpx.Client) -> None:
    id_ = http.post("/v1/conversations", json={}).json()["id"]
    body = {"content": "Say hello.", "model": "synthetic", "sampling": {"max_tokens": 4}}
    answer = http.post(f"/v1/conversations/{id_}/messages", json=body).json()
    path = f"/v1/conversations/{id_}/messages/{answer['id']}"

    rating = {"rating": "RATING_DOWN", "reason": "FEEDBACK_REASON_STYLE", "comment": "too long"}
    rated = http.post(f"{path}:rate", json=rating)
    assert rated.status_code == 200, rated.text
    assert {key: rated.json()["feedback"][key] for key in rating} == rating
    assert http.get(path).json()["feedback"]["rating"] == "RATING_DOWN"

    assert http.post(f"{path}:rate", json={"rating": "RATING_UP"}).json()["feedback"]["comment"] == ""
    assert not http.post(f"{path}:rate", json={}).json().get("feedback")

    question = http.post(f"/v1/conversations/{id_}/messages/{answer['parent_id']}:rate", json=rating)
    assert (question.status_code, question.json()["details"][0]["reason"]) == (400, "WRONG_MESSAGE_ROLE")
