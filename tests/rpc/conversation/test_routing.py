"""What the Router decides beside the replica: cascades, shadows, experiments, priorities; and the receipt of it all."""

from __future__ import annotations

from typing import Any

import grpc
import psycopg
import pytest

from chatmesh.conversation.v1 import conversation_service_pb2, experiment_service_pb2, generation_event_pb2
from chatmesh.conversation.v1.conversation_service_pb2_grpc import ConversationServiceStub
from chatmesh.conversation.v1.experiment_service_pb2_grpc import ExperimentServiceStub
from chatmesh.inference.v1 import generation_pb2
from chatmesh.router.v1 import router_service_pb2
from services.runtime.errors import DomainError, Reason
from tests.rpc.conversation.peers import PROMPT_TOKENS, assembled, routed
from tests.rpc.conversation.scripted import eventually
from tests.rpc.conversation.stage import Stage
from tests.rpc.conversation.streams import Delta, tokens, words

pytestmark = pytest.mark.asyncio(loop_scope="session")

ESCALATED = generation_event_pb2.NOTICE_KIND_ESCALATED
REPLACED = generation_event_pb2.NOTICE_KIND_ENGINE_REPLACED


def cheap(stage: Stage, **cascade: Any) -> router_service_pb2.RouteResponse:
    """A route to a small model behind which a large one stands."""
    response: router_service_pb2.RouteResponse = stage.to(stage.engine)
    response.receipt.classification = "simple:0.10"
    response.receipt.experiments.add(experiment="cheap-first", arm="small")
    response.receipt.models.add(model="small", score=0.1)
    response.receipt.models.add(model="large", score=1.0, reason="price")
    response.receipt.models.add(model="tiny", score=0.05, reason="too_weak")
    response.model.prices.input_per_million = 1.0
    response.model.prices.output_per_million = 2.0
    response.cascade.model = "large"
    response.cascade.probe_tokens = 3
    response.cascade.MergeFrom(router_service_pb2.Cascade(**cascade))
    return response


def large(stage: Stage) -> router_service_pb2.RouteResponse:
    response = routed(stage.other_engine.address, stage.other_engine.replica_id, model="large")
    response.receipt.rule = "cascade"
    response.model.prices.input_per_million = 10.0
    response.model.prices.output_per_million = 20.0
    return response


def considered(answer: Any) -> dict[str, str]:
    """The models of an answer's receipt, and why each was not taken."""
    return {candidate.model: candidate.reason for candidate in answer.route.models}


def sure(generation_id: str, text: str, logprob: float) -> Delta:
    delta = words(generation_id, text)
    delta.logprob_sum = logprob * delta.token_count
    return delta


def shadow_runs(stage: Stage, generation_id: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(stage.environment["CHATMESH_DATABASE_URL"]) as connection:
        return connection.execute(
            "SELECT name, model, first_token_ms, completion_tokens, error FROM conversation.shadow_runs"
            " WHERE generation_id = %s",
            [generation_id],
        ).fetchall()


async def test_a_strong_beginning_is_shown_and_nobody_else_is_asked(stage: Stage) -> None:
    stage.prepare(route=cheap(stage, min_mean_logprob=-1.0))
    reader = (await stage.user()).stream(model="auto")
    start = await stage.engine.next_start()
    assert start.confidence
    stage.engine.say(sure(start.generation_id, "one two ", -0.2))
    await reader.started()
    # Held back: two tokens of three.
    assert reader.text == ""
    assert stage.moderation.texts.get(start.generation_id, "") == ""
    stage.engine.say(sure(start.generation_id, "three ", -0.2))
    await reader.shows("one two three ")
    stage.engine.finish(start.generation_id, "four")
    answer = await reader.completed()
    assert (answer.model, answer.content) == ("small", "one two three four")
    assert (answer.route.classification, answer.route.escalated_from) == ("simple:0.10", "")
    # 40 tokens of prompt at a dollar a million, 4 of answer at two.
    assert answer.route.cost_nano_usd == 40_000 + 8_000
    assert reader.notices == []


@pytest.mark.parametrize(
    ("cascade", "deltas"),
    [
        ({"min_mean_logprob": -1.0}, [("Maybe it ", -3.0), ("is ", -3.0)]),
        ({"weak_openings": ["I am not sure"]}, [("I am ", -0.1), ("not sure.", -0.1)]),
    ],
    ids=["unsure", "opening"],
)
async def test_a_weak_beginning_is_never_shown(
    stage: Stage, cascade: dict[str, Any], deltas: list[tuple[str, float]]
) -> None:
    stage.prepare(route=(cheap(stage, **cascade), large(stage)), assemble=(assembled("Hello"), assembled("Hello")))
    user = await stage.user()
    reader = user.stream(model="auto")
    start = await stage.engine.next_start()
    for text, logprob in deltas:
        stage.engine.say(sure(start.generation_id, text, logprob))
    again = await stage.other_engine.next_start()
    await stage.engine.was_cancelled(start.generation_id)
    assert (again.model, again.generation_id, list(again.continuation)) == ("large", f"{start.generation_id}.1.2", [])
    assert not again.confidence
    assert start.generation_id not in stage.moderation.texts
    first, second = stage.router.route.requests
    assert (first.model, second.model, second.escalated_from) == ("auto", "large", "small")
    # The prompt is counted for the model that gets it.
    assert [target.model for target in stage.context.targets] == ["small", "large"]
    stage.other_engine.finish(again.generation_id, "It is.")
    answer = await reader.completed()
    assert (answer.model, answer.content, reader.text) == ("large", "It is.", "It is.")
    assert reader.notices == [ESCALATED]
    route = answer.route
    assert (route.requested_model, route.model, route.escalated_from) == ("auto", "large", "small")
    # What was decided for the request, and who answered.
    assert (route.classification, route.rule) == ("simple:0.10", "cascade")
    assert [(arm.experiment, arm.arm) for arm in route.experiments] == [("cheap-first", "small")]
    assert considered(answer) == {"small": "weak_answer", "large": "", "tiny": "too_weak"}
    # What the weak one took is paid for, and not by the user.
    assert route.cost_nano_usd > PROMPT_TOKENS * 10_000 + 2 * 20_000
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (PROMPT_TOKENS, 2)
    assert (await stage.usage.settled(start.generation_id)).usage == answer.usage


@pytest.mark.parametrize("ended", [False, True])
async def test_a_weak_answer_is_better_than_none(stage: Stage, ended: bool) -> None:
    nobody = DomainError(Reason.NO_REPLICA, "None is left.")
    stage.prepare(route=(cheap(stage, probe_tokens=2, weak_openings=["well"]), *[nobody] * 3))
    reader = (await stage.user()).stream(model="auto")
    start = await stage.engine.next_start()
    if ended:
        stage.engine.finish(start.generation_id, "Well, no.")
    else:
        stage.engine.say(tokens(start.generation_id, ("Well, ", 1)))
        # It goes on from what it has written, as when its replica had been lost.
        again = await stage.engine.next_start()
        assert [(piece.text, list(piece.token_ids)) for piece in again.continuation] == [("Well, ", [1])]
        stage.engine.finish(again.generation_id, "no.")
    answer = await reader.completed()
    assert (answer.content, answer.model, answer.route.escalated_from) == ("Well, no.", "small", "")
    assert considered(answer) == {"small": "", "large": "price", "tiny": "too_weak"}
    assert ESCALATED not in reader.notices


async def test_a_stop_shows_what_was_held_back(stage: Stage) -> None:
    stage.prepare(route=cheap(stage, probe_tokens=100))
    user = await stage.user()
    reader = user.stream(model="auto")
    start = await stage.engine.next_start()
    await reader.started()
    stage.engine.say(words(start.generation_id, "one two"))
    await user.stop(reader.generation_id)
    answer = await reader.completed()
    assert answer.content in ("one two", "")
    assert answer.content == reader.text


async def test_before_any_text_another_model_may_answer(stage: Stage) -> None:
    stage.prepare(route=(stage.to(stage.engine), large(stage)), assemble=(assembled("Hello"), assembled("Hello")))
    reader = (await stage.user()).stream()
    await stage.engine.next_start()
    await reader.started()
    stage.engine.break_off(grpc.StatusCode.UNAVAILABLE)
    again = await stage.other_engine.next_start()
    assert again.model == "large"
    stage.other_engine.finish(again.generation_id, "Here.")
    answer = await reader.completed()
    assert (answer.model, answer.route.retries) == ("large", 1)
    assert reader.notices == [REPLACED]


async def test_the_receipt_says_what_it_took(stage: Stage) -> None:
    response = stage.to(stage.engine)
    response.priority = generation_pb2.PRIORITY_HIGH
    response.receipt.pool, response.receipt.zone, response.receipt.region = "h100", "eu-1a", "eu-1"
    response.receipt.models.add(model="large", score=2.5, reason="price")
    stage.prepare(route=response)
    user = await stage.user()
    reader = user.stream()
    start = await stage.engine.next_start()
    assert start.priority == generation_pb2.PRIORITY_HIGH
    assert not start.confidence
    last = stage.engine.last(start.generation_id, "Hi.")
    last.end.queue_ms, last.end.first_token_ms = 12.5, 80.0
    stage.engine.say(last)
    answer = await reader.completed()
    route = answer.route
    assert (route.queue_ms, route.first_token_ms, route.retries, route.epochs) == (12.5, 80.0, 0, 1)
    assert (route.pool, route.zone, route.region) == ("h100", "eu-1a", "eu-1")
    assert not route.HasField("cost_nano_usd")
    # The same in the terminal event and when the message is read.
    stub: Any = ConversationServiceStub(stage.channel)
    stored = await stub.GetMessage(
        conversation_service_pb2.GetMessageRequest(conversation_id=answer.conversation_id, message_id=answer.id),
        metadata=user.metadata,
    )
    assert stored.route == route


async def test_a_fork_is_routed_to_where_its_source_is(stage: Stage) -> None:
    user = await stage.user()
    reader, start = await stage.turn(user)
    stage.engine.finish(start.generation_id, "Hi.")
    answer = await reader.completed()
    asked = stage.router.route.requests[-1]
    assert (list(asked.affinity_keys), asked.last_replica_id) == ([user.conversation_id], "")
    stub: Any = ConversationServiceStub(stage.channel)
    source = user.conversation_id
    for _ in range(2):
        fork = await stub.BranchConversation(
            conversation_service_pb2.BranchConversationRequest(
                conversation_id=user.conversation_id, message_id=answer.id
            ),
            metadata=user.metadata,
        )
        user.conversation_id = fork.id
        reader, start = await stage.turn(user, "And then?")
        stage.engine.finish(start.generation_id, "Then.")
        answer = await reader.completed()
        # Also the fork of a fork.
        asked = stage.router.route.requests[-1]
        assert (list(asked.affinity_keys), asked.last_replica_id) == ([fork.id, source], stage.engine.replica_id)


async def test_experiments_are_compared(stage: Stage) -> None:
    name = "which-is-better"
    stub: Any = ExperimentServiceStub(stage.channel)
    asked = experiment_service_pb2.GetExperimentResultsRequest(experiment=name)
    assert not (await stub.GetExperimentResults(asked)).arms

    async def ask(arm: str, rating: str, first_token_ms: float) -> None:
        response = stage.to(stage.engine)
        response.receipt.experiments.add(experiment=name, arm=arm)
        stage.prepare(route=response)
        user = await stage.user()
        reader = user.stream()
        start = await stage.engine.next_start()
        last = stage.engine.last(start.generation_id, "Hi there.")
        last.end.first_token_ms = first_token_ms
        stage.engine.say(last)
        answer = await reader.completed()
        if rating:
            conversations: Any = ConversationServiceStub(stage.channel)
            await conversations.RateMessage(
                conversation_service_pb2.RateMessageRequest(
                    conversation_id=answer.conversation_id, message_id=answer.id, rating=f"RATING_{rating}"
                ),
                metadata=user.metadata,
            )

    for arm, rating, first_token_ms in (("a", "UP", 10), ("a", "DOWN", 20), ("a", "", 30), ("b", "UP", 40)):
        await ask(arm, rating, first_token_ms)
    a, b = (await stub.GetExperimentResults(asked)).arms
    assert (a.arm, a.users, a.generations, a.rated, a.rated_up) == ("a", 3, 3, 2, 1)
    assert (a.first_token_p50_ms, a.completion_tokens, a.failed) == (20, 2, 0)
    assert (b.arm, b.users, b.generations, b.rated, b.rated_up) == ("b", 1, 1, 1, 1)
    assert a.duration_p50_ms > 0


async def test_a_shadow_gets_the_same_and_nobody_sees_it(stage: Stage) -> None:
    response = stage.to(stage.engine)
    shadow = response.shadows.add(name="bigger")
    shadow.lease.address = stage.other_engine.address
    shadow.lease.replica_id = stage.other_engine.replica_id
    shadow.model.name = "large"
    shadow.model.max_output_tokens = 50
    stage.prepare(route=response)
    user = await stage.user()
    reader = user.stream()
    start = await stage.engine.next_start()
    copy = await stage.other_engine.next_start()
    assert (copy.model, copy.messages) == ("large", start.messages)
    assert copy.priority == generation_pb2.PRIORITY_BACKGROUND
    assert copy.sampling.max_tokens == 50
    stage.engine.finish(start.generation_id, "Hi.")
    assert (await reader.completed()).content == "Hi."
    last = stage.other_engine.last(copy.generation_id, "Something else.")
    last.end.first_token_ms = 7.0
    stage.other_engine.say(last)

    await eventually(lambda: shadow_runs(stage, start.generation_id), "the shadow is recorded")
    assert shadow_runs(stage, start.generation_id) == [("bigger", "large", 7.0, 2, "")]
    # Nobody is charged for it.
    assert (await stage.usage.settled(start.generation_id)).usage.completion_tokens == 1


async def test_shadows_with_long_names_are_kept_apart(stage: Stage) -> None:
    response = stage.to(stage.engine)
    names = [f"{'long-' * 12}{number}" for number in range(2)]
    for name in names:
        shadow = response.shadows.add(name=name)
        shadow.lease.address = stage.other_engine.address
        shadow.model.name = "large"
        shadow.model.max_output_tokens = 50
    stage.prepare(route=response)
    reader = (await stage.user()).stream()
    start = await stage.engine.next_start()
    copies = [await stage.other_engine.next_start() for _ in names]
    for copy in copies:
        stage.other_engine.finish(copy.generation_id, "Something else.")
    await eventually(lambda: len(shadow_runs(stage, start.generation_id)) == 2, "both are recorded")
    assert {run[0] for run in shadow_runs(stage, start.generation_id)} == set(names)
    stage.engine.finish(start.generation_id, "Hi.")
    await reader.completed()
