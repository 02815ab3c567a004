"""A user does not agree with moderation: what was refused or held keeps its event, and that is appealed against."""

from __future__ import annotations

import uuid

import pytest

from chatmesh.conversation.v1 import conversation_pb2, generation_service_pb2
from chatmesh.moderation.v1 import moderation_service_pb2, review_service_pb2, verdict_pb2
from services.runtime.errors import DomainError, Reason
from tests.rpc.conversation.stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="session")

EVENT = "8e6b0a51-58f5-4b4e-9a3e-1d2f3c4b5a69"
STATUSES = {
    verdict_pb2.ACTION_BLOCK: conversation_pb2.MESSAGE_STATUS_BLOCKED,
    verdict_pb2.ACTION_HOLD: conversation_pb2.MESSAGE_STATUS_HELD,
}
REASONS = {
    verdict_pb2.ACTION_BLOCK: Reason.CONTENT_BLOCKED,
    verdict_pb2.ACTION_HOLD: Reason.CONTENT_HELD,
}


def refuses(action: verdict_pb2.Action) -> moderation_service_pb2.CheckInputResponse:
    return moderation_service_pb2.CheckInputResponse(
        verdict=verdict_pb2.Verdict(
            action=action,
            findings=[verdict_pb2.Finding(category="violence", rule="r", action=action)],
            policy_version="p7",
            event_id=EVENT,
        )
    )


@pytest.mark.parametrize("action", STATUSES)
async def test_a_refused_question_and_its_answer_can_be_appealed_against(
    stage: Stage, action: verdict_pb2.Action
) -> None:
    user = await stage.user()
    stage.prepare("Hello", check_input=refuses(action))
    refusal = await user.stream("Hello").refusal()
    assert refusal.reason is REASONS[action]
    messages = await user.messages()
    assert [(message.content, message.status) for message in messages] == [
        ("Hello", STATUSES[action]),
        ("", STATUSES[action]),
    ]
    generation = await user.generation(messages[0].generation_id)
    assert generation.state == generation_service_pb2.GENERATION_STATE_BLOCKED
    for message in messages:
        assert message.error.reason == refusal.reason
        assert message.error.metadata["event_id"] == EVENT
        stage.moderation.appeal.queue(review_service_pb2.Event(event_id=EVENT))
        assert await user.appeal(message.id, "It is about a film.") == message
    for request in stage.moderation.appeal.requests:
        assert request == review_service_pb2.AppealEventRequest(
            event_id=EVENT, user_id=user.id, appeal="It is about a film."
        )
    # What was refused is no part of what the model sees later, and is not answered again as it is.
    with pytest.raises(DomainError) as again:
        await user.send("And now?", parent_id=str(uuid.uuid4()))
    assert again.value.reason is Reason.MESSAGE_NOT_FOUND


async def test_there_is_nothing_to_appeal_against(stage: Stage) -> None:
    user = await stage.user()
    reader, start = await stage.turn(user)
    stage.engine.finish(start.generation_id, "Hi.")
    await reader.completed()
    for message in await user.messages():
        with pytest.raises(DomainError) as caught:
            await user.appeal(message.id)
        assert caught.value.reason is Reason.EVENT_NOT_FOUND
        assert caught.value.metadata == {"message_id": message.id}
    for unknown in (str(uuid.uuid4()),):
        with pytest.raises(DomainError) as caught:
            await user.appeal(unknown)
        assert caught.value.reason is Reason.MESSAGE_NOT_FOUND
    with pytest.raises(DomainError) as caught:
        await user.appeal((await user.messages())[0].id, "")
    assert caught.value.reason is Reason.INVALID_FIELD


async def test_a_message_of_somebody_else(stage: Stage) -> None:
    user, other = await stage.user(), await stage.user()
    stage.prepare("Hello", check_input=refuses(verdict_pb2.ACTION_BLOCK))
    await user.stream("Hello").refusal()
    message = (await user.messages())[0]
    other.conversation_id = user.conversation_id
    with pytest.raises(DomainError) as caught:
        await other.appeal(message.id)
    assert caught.value.reason is Reason.CONVERSATION_NOT_FOUND


@pytest.mark.parametrize(
    ("reply", "reason", "metadata"),
    [
        (
            DomainError(Reason.WRONG_EVENT_STATE, "again", metadata={"event_id": EVENT, "state": "pending"}),
            Reason.WRONG_EVENT_STATE,
            {"event_id": EVENT, "state": "pending"},
        ),
        (DomainError(Reason.EVENT_NOT_FOUND, "gone", metadata={"event_id": EVENT}), Reason.EVENT_NOT_FOUND, None),
    ],
)
async def test_the_queue_refuses(
    stage: Stage, reply: DomainError, reason: Reason, metadata: dict[str, str] | None
) -> None:
    user = await stage.user()
    stage.prepare("Hello", check_input=refuses(verdict_pb2.ACTION_BLOCK))
    await user.stream("Hello").refusal()
    message = (await user.messages())[0]
    stage.moderation.appeal.queue(reply)
    with pytest.raises(DomainError) as caught:
        await user.appeal(message.id)
    assert caught.value.reason is reason
    assert caught.value.metadata == (metadata or {"message_id": message.id})
