"""Routing through the whole mesh: who answers, why, and what it cost, as users and operators see it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.mesh_process import MeshProcess, eventually, running_mesh

MODELS = """
models:
  - &model
    name: small
    engine: synthetic
    context_length: 8192
    max_output_tokens: 256
    slots: 64
    quality: 0.3
    prices: {input_per_million: 1.0, output_per_million: 2.0}
    default_system_prompt: This is a synthetic model.
    engine_options: {tokens_per_second: 0, mean_logprob: -3.0}
  - <<: *model
    name: large
    quality: 0.9
    prices: {input_per_million: 10.0, output_per_million: 20.0}
    engine_options: {tokens_per_second: 0, mean_logprob: -0.1}
  - <<: *model
    name: nowhere
    pools: [elsewhere]
    fallbacks: [large]
  - <<: *model
    name: for-plus
    tiers: [plus]
pools:
  elsewhere: {description: A pool without a replica.}
residencies:
  here: [local]
  moon: [moon-1]
tiers:
  free: {priority: low}
auto:
  auto:
    models: [small, large]
    cascade: {first: small, then: large, probe_tokens: 8, min_mean_logprob: -1.0}
aliases:
  either: [small]
  copied: [small]
experiments:
  - name: which
    alias: either
    arms:
      - {name: control, weight: 1}
      - {name: larger, weight: 1, model: large}
shadows:
  - {name: what-if, alias: copied, to: large, share: 1.0}
"""


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MeshProcess]:
    models = tmp_path_factory.mktemp("routing") / "models.yaml"
    models.write_text(MODELS)
    with running_mesh(models=models, extra={"CHATMESH_TITLE_MODEL": ""}) as running:
        yield running


class User:
    """Somebody with a token."""

    def __init__(self, mesh: MeshProcess, *claims: str) -> None:
        self.id = f"user-{uuid.uuid4()}"
        token = mesh.chatmesh("token", "--user", self.id, *claims).stdout.strip()
        self.http = httpx.Client(
            base_url=mesh.url, headers={"authorization": f"Bearer {token}"}, timeout=60, trust_env=False
        )

    def ask(self, content: str, *, model: str) -> Any:
        """The answer in a conversation of its own."""
        made = self.http.post("/v1/conversations", json={"model": model})
        assert made.status_code == 200, made.text
        path = f"/v1/conversations/{made.json()['id']}/messages"
        answer = self.http.post(path, json={"content": content, "sampling": {"max_tokens": 40}})
        assert answer.status_code == 200, answer.text
        said = answer.json()
        # What is read later says the same.
        assert self.http.get(f"{path}/{said['id']}").json()["route"] == said["route"]
        return said


@pytest.fixture(scope="module")
def user(mesh: MeshProcess) -> User:
    return User(mesh, "--tier", "enterprise")


def test_a_weak_answer_of_the_cheap_model_is_not_shown(user: User) -> None:
    answer = user.ask("Hello!", model="auto")
    route = answer["route"]
    assert (answer["model"], route["escalated_from"], route["requested_model"]) == ("large", "small", "auto")
    assert route["classification"].startswith("simple:")
    assert {candidate["model"]: candidate["reason"] for candidate in route["models"]} == {
        "small": "weak_answer",
        "large": "",
    }
    # Both are paid for.
    tokens = answer["usage"]
    alone = tokens["prompt_tokens"] * 10_000 + tokens["completion_tokens"] * 20_000
    assert alone < int(route["cost_nano_usd"]) < 2 * alone


def test_a_hard_question_goes_to_the_strong_model(user: User) -> None:
    question = "Prove step by step, with full reasoning, why $\\int_0^1 x^2 dx = \\frac{1}{3}$, then derive it for $n$."
    answer = user.ask(question, model="auto")
    assert answer["model"] == "large"
    assert not answer["route"].get("escalated_from")


def test_a_model_without_a_replica_falls_back(user: User) -> None:
    answer = user.ask("Hello!", model="nowhere")
    assert (answer["model"], answer["route"]["requested_model"]) == ("large", "nowhere")
    assert "fallback:large" in answer["route"]["rule"]


def test_residency_is_a_hard_rule(mesh: MeshProcess) -> None:
    here = User(mesh, "--residency", "here").ask("Hello!", model="small")
    assert here["route"]["region"] == "local"
    for residency in ("moon", "unknown"):
        away = User(mesh, "--residency", residency)
        conversation = away.http.post("/v1/conversations", json={"model": "small"}).json()
        refused = away.http.post(f"/v1/conversations/{conversation['id']}/messages", json={"content": "Hello!"})
        assert refused.status_code == 503, refused.text
        assert refused.json()["details"][0]["reason"] == "RESIDENCY_UNAVAILABLE"


def test_a_tier_is_a_hard_rule(mesh: MeshProcess) -> None:
    assert User(mesh, "--tier", "plus").ask("Hello!", model="for-plus")["model"] == "for-plus"
    free = User(mesh)
    conversation = free.http.post("/v1/conversations", json={"model": "for-plus"}).json()
    refused = free.http.post(f"/v1/conversations/{conversation['id']}/messages", json={"content": "Hello!"})
    assert (refused.status_code, refused.json()["details"][0]["reason"]) == (403, "MODEL_NOT_ALLOWED")


def test_an_experiment_from_exposure_to_result(mesh: MeshProcess) -> None:
    arms: dict[str, int] = {"control": 0, "larger": 0}
    for _ in range(12):
        someone = User(mesh, "--tier", "enterprise")
        first, second = (someone.ask("Hello!", model="either") for _ in range(2))
        [dealt] = first["route"]["experiments"]
        assert dealt["experiment"] == "which"
        # Always the same arm for the same user.
        assert second["route"]["experiments"] == [dealt]
        assert first["model"] == {"control": "small", "larger": "large"}[dealt["arm"]]
        arms[dealt["arm"]] += 1
        path = f"/v1/conversations/{first['conversation_id']}/messages/{first['id']}:rate"
        assert someone.http.post(path, json={"rating": "RATING_UP"}).status_code == 200
    results = json.loads(mesh.chatmesh("experiments", "which", "--json").stdout)
    found = {arm["arm"]: arm for arm in results["arms"]}
    for name, users in arms.items():
        if users:
            arm = found[name]
            counts = [int(arm[key]) for key in ("users", "generations", "rated_up")]
            assert counts == [users, 2 * users, users]
            assert arm["duration_p50_ms"] > 0


def test_a_copy_costs_the_user_nothing(mesh: MeshProcess) -> None:
    someone = User(mesh, "--tier", "enterprise")
    answer = someone.ask("Hello!", model="copied")
    assert answer["model"] == "small"
    usage = answer["usage"]
    expected = usage["prompt_tokens"] + usage["completion_tokens"]
    # Settled beside the answer; what was reserved meanwhile is more.
    eventually(lambda: int(someone.http.get("/v1/usage").json()["tokens_today"]), lambda used: used == expected)


def test_operators_see_models_and_fleet(mesh: MeshProcess) -> None:
    models = json.loads(mesh.chatmesh("models", "--json").stdout)
    found = {model["name"]: model for model in models["models"]}
    assert found["small"]["ready_replicas"] == 1
    assert found["nowhere"]["ready_replicas"] == 0
    fleet = json.loads(mesh.chatmesh("fleet", "--once", "--json").stdout)
    [replica] = fleet["replicas"]
    assert {model["loaded"]["name"] for model in replica["models"]} == {"small", "large", "for-plus"}
    table = mesh.chatmesh("fleet", "--once").stdout
    assert "small" in table
    assert "large" in table


def test_the_models_file_is_read_again_and_a_bad_one_is_refused(mesh: MeshProcess, user: User) -> None:
    path = Path(mesh.environment["CHATMESH_MODELS_FILE"])
    path.write_text(MODELS.replace("either: [small]", "either: [missing]"))
    log = mesh.home / "logs" / "router.log"
    eventually(log.read_text, lambda text: "models file refused" in text)
    assert user.ask("Hello!", model="copied")["model"] == "small"
    assert "stands for missing" in mesh.chatmesh("models").stdout
    path.write_text(MODELS.replace("copied: [small]", "copied: [large]"))
    eventually(lambda: user.ask("Hello!", model="copied")["model"], lambda model: model == "large")
    path.write_text(MODELS)
