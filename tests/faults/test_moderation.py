"""Moderation that dies or hangs in the middle of answers: what the policy says about that time is what happens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.moderation.policy import PACKAGED_POLICY
from tests.faults.audience import check_stored
from tests.faults.breakage import all_serve, kill, paused, pids
from tests.faults.client import Answer, Client
from tests.mesh_process import MeshProcess, running_mesh

MODERATION = "moderation"
OPEN_TIER = "plus"
CARD = "4111 1111 1111 1111"
STORY = "The quiet river runs past the old market, and nobody in the harbour hears it. " * 10
PATIENCE_MS = 600
STALL_S = 3


def models() -> str:
    model = {
        "engine": "synthetic",
        "context_length": 8192,
        "max_output_tokens": 4096,
        "slots": 64,
        "default_system_prompt": "This is a synthetic model.",
    }
    answers = {
        # Four and ten seconds of text, with something to redact at the beginning and the end.
        "short": {"tokens_per_second": 50, "answer": f"Pay with {CARD}. {STORY} Or with {CARD}."},
        "long": {"tokens_per_second": 50, "answer": f"Pay with {CARD}. {STORY * 3} Or with {CARD}."},
    }
    return yaml.safe_dump(
        {
            "models": [{"name": name, **model, "engine_options": options} for name, options in answers.items()],
            "aliases": {"auto": ["short"]},
        }
    )


def policy() -> str:
    """The packaged one, which lets nothing pass without its rules; for one tier all output passes."""
    content: dict[str, Any] = yaml.safe_load(PACKAGED_POLICY.read_text())
    content["stream"]["patience_ms"] = PATIENCE_MS
    is_open = {name: {"output": {"unavailable": "open"}} for name in content["categories"]}
    content["overrides"] = [{"tiers": [OPEN_TIER], "categories": is_open}]
    return yaml.safe_dump(content)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MeshProcess]:
    folder: Path = tmp_path_factory.mktemp("moderation")
    (folder / "models.yaml").write_text(models())
    (folder / "policy.yaml").write_text(policy())
    extra = {
        "CHATMESH_TITLE_MODEL": "",
        "CHATMESH_POLICY_FILE": str(folder / "policy.yaml"),
        "CHATMESH_STALL_TIMEOUT_S": str(STALL_S),
    }
    with running_mesh(models=folder / "models.yaml", extra=extra) as running:
        yield running


@pytest.fixture
def closed(mesh: MeshProcess) -> Iterator[Client]:
    """Somebody whose answers the policy shows only when they are checked."""
    all_serve(mesh)
    with Client(mesh, model="short", silence_s=30.0) as client:
        yield client


@pytest.fixture
def open_to_all(mesh: MeshProcess) -> Iterator[Client]:
    """Somebody whose answers the policy shows also unchecked."""
    all_serve(mesh)
    with Client(mesh, model="short", silence_s=30.0, tier=OPEN_TIER) as client:
        yield client


def checked(answer: Answer) -> Any:
    """What the receipt says about the check of an answer."""
    return answer.message["route"]["moderation"]["output"]


def as_written(text: str) -> str:
    """The whole answer, with what the policy puts in the place of cards."""
    return text.replace(CARD, "[card number removed]")


SHORT = as_written(f"Pay with {CARD}. {STORY} Or with {CARD}.")
LONG = as_written(f"Pay with {CARD}. {STORY * 3} Or with {CARD}.")


def test_killed_in_mid_stream(mesh: MeshProcess, closed: Client) -> None:
    """Its successor is sent the answer from its start: nothing is shown twice, and what it finds is redacted."""
    processes = pids(mesh)
    answer, end = closed.start("Hello!", conversation_id=closed.conversation("long"))
    answer.reach(20)
    kill(processes, [MODERATION])
    whole = end.result()
    # Felt: for a while nothing was shown, though the engine went on.
    assert longest_pause(whole) > 0.5
    assert "completed" in whole.events[-1], whole.events[-1]
    assert whole.connections == 1
    assert whole.positions == sorted(set(whole.positions))
    assert whole.text == LONG
    assert (checked(whole)["mode"], checked(whole)["action"]) == ("MODERATION_MODE_CHECKED", "redact")
    check_stored(closed, whole)
    assert closed.read_again(whole.generation_id).text == LONG


def test_hangs_under_an_open_policy(mesh: MeshProcess, open_to_all: Client, closed: Client) -> None:
    """After the patience of the policy text is shown unchecked, and the receipt says so."""
    processes = pids(mesh)
    shown, shown_end = open_to_all.start("Hello!")
    hidden, hidden_end = closed.start("Hello!")
    shown.reach(20)
    hidden.reach(20)
    with paused(processes, MODERATION):
        length = len(hidden.text)
        whole = shown_end.result()
        # Felt: under the closed policy the same silence has shown next to nothing.
        assert len(hidden.text) < length + 100
    assert "completed" in whole.events[-1], whole.events[-1]
    assert checked(whole)["mode"] == "MODERATION_MODE_OPEN"
    # What was checked before stays redacted, what came after it is shown as it was written.
    assert whole.text.startswith("Pay with [card number removed]. The quiet river")
    assert whole.text.endswith(f"Or with {CARD}.")
    check_stored(open_to_all, whole)
    hidden_end.result()


def test_hangs_for_a_moment_under_a_closed_policy(mesh: MeshProcess, closed: Client) -> None:
    """Nothing unchecked is shown, and the answer goes on when it does."""
    processes = pids(mesh)
    answer, end = closed.start("Hello!", conversation_id=closed.conversation("long"))
    answer.reach(20)
    with paused(processes, MODERATION):
        length = len(answer.text)
        # Others are told at once, or soon, that nothing can be checked now.
        refused = closed.http.post(
            f"/v1/conversations/{closed.conversation()}/messages", json={"content": "Hello!", "request_id": ""}
        )
        assert refused.status_code in (503, 504), refused.text
        assert len(answer.text) < length + 100
    whole = end.result()
    assert longest_pause(whole) > 1.0
    assert "completed" in whole.events[-1], whole.events[-1]
    assert whole.text == LONG
    assert checked(whole)["mode"] == "MODERATION_MODE_CHECKED"


def test_hangs_for_good_under_a_closed_policy(mesh: MeshProcess, closed: Client) -> None:
    """Nothing unchecked is shown, and the answer fails with a word that says why."""
    processes = pids(mesh)
    answer, end = closed.start("Hello!")
    answer.reach(20)
    with paused(processes, MODERATION):
        whole = end.result()
        failed = whole.events[-1]["failed"]
    assert failed["error"]["reason"] == "DEPENDENCY_UNAVAILABLE"
    assert failed["error"]["metadata"]["service"] == "moderation"
    assert checked(whole)["mode"] == "MODERATION_MODE_CLOSED"
    assert SHORT.startswith(whole.text)
    assert len(whole.text) < len(SHORT)
    assert whole.message["content"] == whole.text
    assert whole.message["status"] == "MESSAGE_STATUS_FAILED"
    assert closed.messages(whole.conversation_id)[1] == whole.message


def longest_pause(answer: Answer) -> float:
    """Between two events of an answer, in seconds."""
    return max(later - earlier for earlier, later in zip(answer.arrivals, answer.arrivals[1:], strict=False))
