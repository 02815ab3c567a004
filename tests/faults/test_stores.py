"""Redis and PostgreSQL die in the middle of answers: nobody who is connected notices more than a notice."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.faults.audience import Audience, check, check_stored
from tests.faults.breakage import all_serve, empty_redis, kept_down, kill, owner_of, pids
from tests.faults.client import Client
from tests.mesh_process import MeshProcess, eventually

Undisturbed = Callable[[str], str]
UNAVAILABLE = 14
"""The code of google.rpc.Status."""
AWAY_AND_BACK = ["resume_unavailable", "resume_available"]


@pytest.mark.parametrize("comes_back", ["with its logs", "empty"])
def test_redis_is_killed(
    mesh_to_break: MeshProcess, patient: Client, undisturbed: Undisturbed, chance: random.Random, comes_back: str
) -> None:
    processes = pids(mesh_to_break)
    audience = Audience(patient, undisturbed=undisturbed, chance=chance)
    audience.settle()
    if comes_back == "empty":
        empty_redis(mesh_to_break)
    kill(processes, ["redis"])

    answers = audience.finish()
    assert [answer.connections for answer in answers] == [1] * len(answers)
    assert answers[-1].notices == AWAY_AND_BACK
    # What was not stored meanwhile is stored by now: a second device sees all of it, at the same positions.
    again = patient.read_again(answers[-1].generation_id)
    assert again.text == answers[-1].text
    assert again.message == answers[-1].message
    assert set(again.positions) <= set(range(1, answers[-1].positions[-1] + 1))
    assert again.notices == AWAY_AND_BACK


def test_redis_loses_the_logs(
    mesh_to_break: MeshProcess, patient: Client, undisturbed: Undisturbed, chance: random.Random
) -> None:
    """It answers all the while. Who watches from elsewhere after that misses nothing either."""
    audience = Audience(patient, undisturbed=undisturbed, chance=chance)
    victim = audience.settle()[-1]
    empty_redis(mesh_to_break)
    victim.reach(len(victim.events) + 5)
    seen_by_another = patient.read_again(victim.generation_id)

    audience.finish()
    assert [answer.connections for answer in audience.answers] == [1] * len(audience.answers)
    assert (seen_by_another.text, seen_by_another.message) == (victim.text, victim.message)


def test_the_database_is_away(
    mesh_to_break: MeshProcess, patient: Client, undisturbed: Undisturbed, chance: random.Random
) -> None:
    idle = patient.conversation()
    audience = Audience(patient, undisturbed=undisturbed, chance=chance)
    answers = audience.settle()
    # The first one is about to be stored, the others are in the middle.
    audience.let_the_first_tell(0.8)
    with kept_down(mesh_to_break, "postgres"):
        refusals = [
            patient.http.post(f"/v1/conversations/{idle}/messages", json={"content": "Hello"}) for _ in range(2)
        ]
        # Its text is all there, and that it is complete is not said before it is stored.
        eventually(lambda: answers[0].text == audience.expected[0], bool)
        assert not any(answer.ended for answer in answers)

    audience.finish()
    assert [answer.connections for answer in answers] == [1] * len(answers)
    assert [(refusal.status_code, refusal.json()["code"]) for refusal in refusals] == [(503, UNAVAILABLE)] * 2
    # Of what was refused nothing is stored, and there is no trace of it later.
    all_serve(mesh_to_break)
    assert patient.messages(idle) == []
    assert patient.call("POST", f"/v1/conversations/{idle}/messages", {"content": "Hello"})["sequence"] == 2


def test_the_database_is_killed_and_started_again(
    mesh_to_break: MeshProcess, patient: Client, undisturbed: Undisturbed, chance: random.Random
) -> None:
    processes = pids(mesh_to_break)
    audience = Audience(patient, undisturbed=undisturbed, chance=chance)
    answers = audience.settle()
    audience.let_the_first_tell(0.8)
    kill(processes, ["postgres"])

    audience.finish()
    assert [answer.connections for answer in answers] == [1] * len(answers)
    all_serve(mesh_to_break)


def test_redis_is_away_and_the_owner_dies(
    mesh_to_break: MeshProcess, patient: Client, undisturbed: Undisturbed, chance: random.Random
) -> None:
    """What was shown meanwhile is stored nowhere. It ends as failed and says so, and nobody sees wrong text."""
    processes = pids(mesh_to_break)
    audience = Audience(patient, undisturbed=undisturbed, chance=chance)
    victim = audience.settle()[-1]
    with kept_down(mesh_to_break, "redis"):
        eventually(lambda: victim.notices, lambda notices: notices == ["resume_unavailable"])
        victim.reach(len(victim.events) + chance.randint(2, 20))
        kill(processes, [owner_of(mesh_to_break, victim.generation_id)])

    for answer, expected in audience.read_to_the_end():
        if "failed" in answer.events[-1]:
            assert answer.events[-1]["failed"]["error"]["reason"] == "ANSWER_LOST"
            assert expected.startswith(answer.text)
            assert expected.startswith(answer.message["content"])
            assert answer.message["status"] == "MESSAGE_STATUS_FAILED"
        else:
            check(answer, expected)
        check_stored(patient, answer)
    assert "failed" in victim.events[-1]
    # The conversation goes on.
    assert patient.ask("Hello", conversation_id=victim.conversation_id).message["sequence"] == 4


def test_everything_that_has_a_part_in_a_turn_is_killed_at_once(
    mesh_to_break: MeshProcess, client: Client, undisturbed: Undisturbed, chance: random.Random
) -> None:
    all_serve(mesh_to_break)
    processes = pids(mesh_to_break)
    audience = Audience(client, undisturbed=undisturbed, chance=chance)
    victim = audience.settle()[-1]
    kill(processes, processes)

    audience.finish()
    assert victim.epochs == [1, 2]
