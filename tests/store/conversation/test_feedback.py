"""Ratings on a real database."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import get_tracer

from services.conversation.feedback_store import FeedbackStore
from services.conversation.message_store import MessageStore
from services.conversation.metrics import FeedbackMetrics
from services.conversation.model import Message, Rating
from services.runtime.database import Database
from services.runtime.errors import DomainError, Reason
from services.runtime.telemetry import Telemetry
from tests.store.conversation.seeding import HandClock, Node, Seeded, chain, conversation_database, seed


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    async with conversation_database(postgres_url) as opened:
        yield opened


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture
def feedback(database: Database, reader: InMemoryMetricReader) -> FeedbackStore:
    meter = MeterProvider([reader]).get_meter("test")
    telemetry = Telemetry(tracer=get_tracer("test"), meter=meter, metrics_address="")
    clock = HandClock()
    return FeedbackStore(
        database=database,
        clock=clock,
        messages=MessageStore(database=database, clock=clock),
        metrics=FeedbackMetrics(telemetry),
    )


async def rate(
    feedback: FeedbackStore, seeded: Seeded, rating: Rating, reason: str = "", comment: str = "", message: str = "a1"
) -> Message:
    return await feedback.rate(
        user_id=seeded.user,
        conversation_id=seeded.id,
        message_id=seeded.ids[message],
        rating=rating,
        reason=reason,
        comment=comment,
    )


def counted(reader: InMemoryMetricReader, name: str) -> dict[tuple[str, ...], float]:
    """Values by model, rule, engine and rating, without those that are zero."""
    data = reader.get_metrics_data()
    points = [
        point
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == name
        for point in metric.data.data_points
    ]
    labels = ("gen_ai.request.model", "rule", "engine", "rating")
    values = {tuple(str((p.attributes or {})[label]) for label in labels): getattr(p, "value", 0.0) for p in points}
    return {key: value for key, value in values.items() if value}


async def test_a_rating_is_changed_and_taken_back(
    database: Database, feedback: FeedbackStore, reader: InMemoryMetricReader
) -> None:
    seeded = await seed(database, chain("q1", "a1"))
    route = ("tiny", "alias", "synthetic")

    rated = await rate(feedback, seeded, Rating.UP, "clear", "good")
    assert rated.id == seeded.ids["a1"]
    assert rated.feedback is not None
    assert (rated.feedback.rating, rated.feedback.reason, rated.feedback.comment) == (Rating.UP, "clear", "good")
    assert counted(reader, "chatmesh.feedback.ratings") == {(*route, "up"): 1}

    first = rated.feedback.updated_at
    rated = await rate(feedback, seeded, Rating.DOWN, "incorrect")
    assert rated.feedback is not None
    assert (rated.feedback.rating, rated.feedback.reason, rated.feedback.comment) == (Rating.DOWN, "incorrect", "")
    assert rated.feedback.updated_at > first
    assert counted(reader, "chatmesh.feedback.ratings") == {(*route, "down"): 1}

    await rate(feedback, seeded, Rating.DOWN, "style")
    assert counted(reader, "chatmesh.feedback.ratings") == {(*route, "down"): 1}

    assert (await rate(feedback, seeded, Rating.NONE)).feedback is None
    assert (await rate(feedback, seeded, Rating.NONE)).feedback is None
    assert await database.statement("SELECT 1 FROM conversation.feedback") == []
    assert counted(reader, "chatmesh.feedback.ratings") == {}
    assert counted(reader, "chatmesh.feedback.changes") == {(*route, "up"): 1, (*route, "down"): 2, (*route, "none"): 1}


async def test_ratings_at_once_count_once(
    database: Database, feedback: FeedbackStore, reader: InMemoryMetricReader
) -> None:
    seeded = await seed(database, chain("q1", "a1"))
    ratings = [Rating.UP, Rating.DOWN, Rating.NONE] * 8
    await asyncio.gather(*(rate(feedback, seeded, rating) for rating in ratings))
    stands = await rate(feedback, seeded, Rating.UP)
    assert stands.feedback is not None
    assert counted(reader, "chatmesh.feedback.ratings") == {("tiny", "alias", "synthetic", "up"): 1}


async def test_what_cannot_be_rated(database: Database, feedback: FeedbackStore, reader: InMemoryMetricReader) -> None:
    writing = Node("a2", "q2", {"status": "in_progress", "content": "", "route": None, "model": ""})
    seeded = await seed(database, [*chain("q1", "a1", "q2"), writing])
    other = await seed(database, chain("q1", "a1"))
    for user, conversation_id, message_id, reason in (
        ("alice", seeded.id, seeded.ids["q1"], Reason.WRONG_MESSAGE_ROLE),
        ("alice", seeded.id, seeded.ids["a2"], Reason.CONVERSATION_BUSY),
        ("alice", seeded.id, other.ids["a1"], Reason.MESSAGE_NOT_FOUND),
        ("alice", seeded.id, "x", Reason.MESSAGE_NOT_FOUND),
        ("alice", str(uuid.uuid4()), seeded.ids["a1"], Reason.CONVERSATION_NOT_FOUND),
        ("bob", seeded.id, seeded.ids["a1"], Reason.CONVERSATION_NOT_FOUND),
    ):
        with pytest.raises(DomainError) as refused:
            await feedback.rate(
                user_id=user,
                conversation_id=conversation_id,
                message_id=message_id,
                rating=Rating.UP,
                reason="",
                comment="",
            )
        assert refused.value.reason is reason
    assert await database.statement("SELECT 1 FROM conversation.feedback") == []
    assert counted(reader, "chatmesh.feedback.changes") == {}
