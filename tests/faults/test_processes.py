"""Processes that die or hang in the middle of answers: whoever resumes sees each answer whole, once and unchanged."""

from __future__ import annotations

import random
from collections.abc import Callable

import grpc
import pytest

from tests.faults.audience import Audience
from tests.faults.breakage import (
    CONVERSATION,
    INFERENCE,
    all_serve,
    busiest_engine,
    kept_down,
    kill,
    owner_of,
    paused,
    pids,
)
from tests.faults.client import Client
from tests.faults.grpc_client import GrpcAnswer
from tests.mesh_process import MeshProcess, eventually

Undisturbed = Callable[[str], str]


def test_who_does_not_resume_loses_the_rest(
    mesh_to_break: MeshProcess, client: Client, undisturbed: Undisturbed, chance: random.Random
) -> None:
    """Shows that the death of the owner bites: its connections end without a terminal event."""
    processes = pids(mesh_to_break)
    audience = Audience(client, undisturbed=undisturbed, chance=chance, resume=False)
    owners = {owner_of(mesh_to_break, answer.generation_id) for answer in audience.settle()}
    kill(processes, owners)

    for answer, expected in audience.read_to_the_end():
        assert answer.connections == 1
        assert not answer.ended
        assert expected.startswith(answer.text)
        assert answer.text != expected


@pytest.mark.parametrize("attempt", range(2))
def test_the_owner_is_killed(
    mesh_to_break: MeshProcess, client: Client, undisturbed: Undisturbed, chance: random.Random, attempt: int
) -> None:
    processes = pids(mesh_to_break)
    audience = Audience(client, undisturbed=undisturbed, chance=chance)
    victim = audience.settle()[chance.randrange(len(audience.answers))]
    kill(processes, [owner_of(mesh_to_break, victim.generation_id)])

    answers = audience.finish()
    assert victim.epochs == [1, 2]
    assert "owner_replaced" in victim.notices
    assert victim.connections > 1
    # Who comes later, or on another device, sees the same.
    again = client.read_again(victim.generation_id)
    assert (again.text, again.message) == (victim.text, victim.message)
    assert all(answer.epochs in ([1], [1, 2]) for answer in answers)


def test_the_owner_is_killed_and_does_not_come_back(
    mesh_to_break: MeshProcess, client: Client, undisturbed: Undisturbed, chance: random.Random
) -> None:
    """Another server notices that it says nothing any more, and takes over."""
    audience = Audience(client, undisturbed=undisturbed, chance=chance)
    victim = audience.settle()[-1]
    with kept_down(mesh_to_break, owner_of(mesh_to_break, victim.generation_id)):
        audience.finish()

    assert victim.epochs == [1, 2]
    assert "owner_replaced" in victim.notices


@pytest.mark.parametrize("attempt", range(2))
def test_one_engine_is_killed_and_then_the_other(
    mesh_to_break: MeshProcess, patient: Client, undisturbed: Undisturbed, chance: random.Random, attempt: int
) -> None:
    processes = pids(mesh_to_break)
    audience = Audience(patient, undisturbed=undisturbed, chance=chance)
    audience.settle()
    order = chance.sample(INFERENCE, 2)
    kill(processes, order[:1])
    audience.answers[-1].reach(len(audience.answers[-1].events) + chance.randint(2, 60))
    kill(processes, order[1:])

    answers = audience.finish()
    # The streams of the clients do not even notice.
    assert [answer.connections for answer in answers] == [1] * len(answers)
    # Whoever was still being answered was on one of the two.
    assert "engine_replaced" in audience.answers[-1].notices


@pytest.mark.parametrize("attempt", range(2))
def test_the_owner_and_all_engines_are_killed_at_once(
    mesh_to_break: MeshProcess, client: Client, undisturbed: Undisturbed, chance: random.Random, attempt: int
) -> None:
    processes = pids(mesh_to_break)
    audience = Audience(client, undisturbed=undisturbed, chance=chance)
    victim = audience.settle()[-1]
    kill(processes, [owner_of(mesh_to_break, victim.generation_id), *INFERENCE])

    audience.finish()
    assert victim.epochs == [1, 2]
    # One whose owner lived has lost its engine alone.
    assert {notice for answer in audience.answers for notice in answer.notices} <= {"owner_replaced", "engine_replaced"}


def test_every_owner_is_killed_at_once(
    mesh_to_break: MeshProcess, client: Client, undisturbed: Undisturbed, chance: random.Random
) -> None:
    processes = pids(mesh_to_break)
    audience = Audience(client, undisturbed=undisturbed, chance=chance)
    victim = audience.settle()[-1]
    kill(processes, CONVERSATION)

    audience.finish()
    assert victim.epochs == [1, 2]


def test_an_engine_hangs_and_comes_back(
    mesh_to_break: MeshProcess, client: Client, undisturbed: Undisturbed, chance: random.Random
) -> None:
    processes = pids(mesh_to_break)
    audience = Audience(client, undisturbed=undisturbed, chance=chance)
    answers = audience.settle()
    with paused(processes, busiest_engine(mesh_to_break)):
        eventually(lambda: [answer.notices for answer in answers], lambda them: ["engine_replaced"] in them)
        answers[-1].reach(len(answers[-1].events) + chance.randint(2, 40))

    # What the one that hung still says is said to nobody.
    audience.finish()
    all_serve(mesh_to_break)


def test_the_owner_hangs_and_comes_back(
    mesh_to_break: MeshProcess, client: Client, undisturbed: Undisturbed, chance: random.Random
) -> None:
    processes = pids(mesh_to_break)
    audience = Audience(client, undisturbed=undisturbed, chance=chance)
    victim = audience.settle()[-1]
    with paused(processes, owner_of(mesh_to_break, victim.generation_id)):
        eventually(lambda: victim.notices, lambda notices: "owner_replaced" in notices)
        # It wakes while the other one is writing.
        victim.reach(len(victim.events) + chance.randint(2, 40))

    audience.finish()
    assert victim.epochs == [1, 2]
    all_serve(mesh_to_break)


@pytest.mark.parametrize("resume", [False, True])
def test_the_owner_is_killed_under_a_grpc_client(
    mesh_to_break: MeshProcess, client: Client, undisturbed: Undisturbed, chance: random.Random, resume: bool
) -> None:
    """Without resuming its call ends in an error; with it the answer is whole."""
    processes = pids(mesh_to_break)
    expected = undisturbed("Question")
    conversation_id = client.conversation()
    with grpc.insecure_channel(mesh_to_break.grpc_target) as channel:
        answer = GrpcAnswer(channel, token=client.token)
        answer.read(
            conversation_id,
            "Question",
            at=chance.randint(2, 80),
            then=lambda generation_id: kill(processes, [owner_of(mesh_to_break, generation_id)]),
            resume=resume,
        )

    assert answer.cuts
    assert answer.ended is resume
    if resume:
        positions = [event.seq for event in answer.events]
        assert positions == sorted(set(positions))
        assert answer.text == expected == answer.events[-1].completed.message.content
        assert sorted({event.epoch for event in answer.events}) == [1, 2]
    else:
        assert expected.startswith(answer.text)
        assert answer.text != expected
