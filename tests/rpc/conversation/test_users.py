"""What belongs to a user: settings, and the deletion of everything."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from chatmesh.conversation.v1 import conversation_service_pb2, user_service_pb2
from chatmesh.conversation.v1.conversation_service_pb2_grpc import ConversationServiceStub
from chatmesh.conversation.v1.user_service_pb2_grpc import UserServiceStub
from chatmesh.moderation.v1 import moderation_service_pb2, verdict_pb2
from services.runtime.errors import DomainError, Reason, from_rpc_error
from tests.rpc.conversation.stage import Stage
from tests.rpc.conversation.streams import allowed
from tests.rpc.conversation.user import User

if TYPE_CHECKING:
    from chatmesh.conversation.v1.conversation_service_pb2_grpc import ConversationServiceAsyncStub
    from chatmesh.conversation.v1.user_service_pb2_grpc import UserServiceAsyncStub

pytestmark = pytest.mark.asyncio(loop_scope="session")


def as_user(user: User) -> tuple[tuple[str, str], ...]:
    return (("x-chatmesh-user", user.id), ("x-chatmesh-tier", "pro"))


def users(stage: Stage) -> UserServiceAsyncStub:
    return UserServiceStub(stage.channel)


async def refusal(call: Awaitable[Any]) -> DomainError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value, service="conversation")


async def titles(stage: Stage, user: User, **asked: Any) -> list[str]:
    stub: ConversationServiceAsyncStub = ConversationServiceStub(stage.channel)
    request = conversation_service_pb2.ListConversationsRequest(**asked)
    listed = await stub.ListConversations(request, metadata=as_user(user))
    return [conversation.title for conversation in listed.conversations]


async def test_members_that_are_not_set_stay(stage: Stage) -> None:
    user = await stage.user()
    me = as_user(user)
    settings = await users(stage).GetSettings(user_service_pb2.GetSettingsRequest(), metadata=me)
    assert settings == user_service_pb2.Settings()
    change = user_service_pb2.UpdateSettingsRequest
    stage.moderation.check_input.queue(allowed())
    settings = await users(stage).UpdateSettings(change(custom_instructions="I am Ann."), metadata=me)
    assert (settings.custom_instructions, settings.default_model) == ("I am Ann.", "")
    settings = await users(stage).UpdateSettings(change(default_model="small"), metadata=me)
    assert (settings.custom_instructions, settings.default_model) == ("I am Ann.", "small")
    assert await users(stage).GetSettings(user_service_pb2.GetSettingsRequest(), metadata=me) == settings
    settings = await users(stage).UpdateSettings(change(custom_instructions=""), metadata=me)
    assert (settings.custom_instructions, settings.default_model) == ("", "small")
    error = await refusal(users(stage).UpdateSettings(change(custom_instructions="x" * 8001), metadata=me))
    assert (error.reason, [field.field for field in error.fields]) == (Reason.INVALID_FIELD, ["custom_instructions"])


async def test_instructions_are_checked_where_they_are_given(stage: Stage) -> None:
    """They are part of every turn: one that is refused would refuse each of them."""
    user = await stage.user()
    me = as_user(user)
    change = user_service_pb2.UpdateSettingsRequest
    verdicts = {
        verdict_pb2.ACTION_REDACT: "my card is [gone]",
        verdict_pb2.ACTION_BLOCK: "",
    }
    for action, redacted in verdicts.items():
        verdict = verdict_pb2.Verdict(action=action, redacted_text=redacted, policy_version="p1")
        stage.moderation.check_input.queue(moderation_service_pb2.CheckInputResponse(verdict=verdict))
    settings = await users(stage).UpdateSettings(change(custom_instructions="my card is 4111"), metadata=me)
    assert settings.custom_instructions == "my card is [gone]"
    error = await refusal(users(stage).UpdateSettings(change(custom_instructions="bad"), metadata=me))
    assert error.reason is Reason.CONTENT_BLOCKED
    assert error.message.startswith("This custom instruction was refused")
    settings = await users(stage).GetSettings(user_service_pb2.GetSettingsRequest(), metadata=me)
    assert settings.custom_instructions == "my card is [gone]"
    generations = {request.generation_id for request in stage.moderation.check_input.requests[-2:]}
    assert len(generations) == 2


async def test_nothing_is_deleted_by_mistake(stage: Stage) -> None:
    user = await stage.user(title="keepsake")
    for request in (user_service_pb2.DeleteUserDataRequest(), user_service_pb2.DeleteUserDataRequest(confirm=False)):
        error = await refusal(users(stage).DeleteUserData(request, metadata=as_user(user)))
        assert (error.reason, [field.field for field in error.fields]) == (Reason.INVALID_FIELD, ["confirm"])
    error = await refusal(users(stage).DeleteUserData(user_service_pb2.DeleteUserDataRequest(confirm=True)))
    assert error.reason is Reason.UNAUTHENTICATED
    assert await titles(stage, user) == ["keepsake"]
    assert stage.usage.forgotten == []


@pytest.mark.parametrize(("key", "limit"), [("x-chatmesh-tier", 64), ("x-chatmesh-tenant", 256)])
async def test_who_belongs_to_nobody_that_we_could_know_is_nobody(stage: Stage, key: str, limit: int) -> None:
    me = {"x-chatmesh-user": (await stage.user()).id, "x-chatmesh-tier": "pro"}
    request = user_service_pb2.GetSettingsRequest()
    await users(stage).GetSettings(request, metadata=tuple({**me, key: "x" * limit}.items()))
    # Cut off, it could be somebody else.
    too_long = tuple({**me, key: "x" * (limit + 1)}.items())
    assert (await refusal(users(stage).GetSettings(request, metadata=too_long))).reason is Reason.UNAUTHENTICATED


async def test_everything_of_the_caller_is_deleted(stage: Stage) -> None:
    user, other = await stage.user(title="mine"), await stage.user(title="theirs")
    request = user_service_pb2.DeleteUserDataRequest(confirm=True)
    deleted = await users(stage).DeleteUserData(request, metadata=as_user(user))
    assert deleted.conversations == 1
    assert await titles(stage, user) == await titles(stage, user, deleted=True) == []
    assert await titles(stage, other) == ["theirs"]
    assert stage.usage.forgotten == [user.id]
