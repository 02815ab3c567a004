"""The public API of what belongs to a user: convert, call, convert."""

from __future__ import annotations

from typing import Any

import grpc

from chatmesh.conversation.v1 import user_service_pb2
from chatmesh.conversation.v1.user_service_pb2_grpc import UserServiceServicer
from services.conversation.convert import timestamp
from services.conversation.model import Settings
from services.conversation.peers.moderation import ModerationPeer
from services.conversation.purge import Purger
from services.conversation.user_store import UserStore
from services.runtime.clock import new_id
from services.runtime.errors import DomainError, FieldViolation, Reason
from services.runtime.identity import require_identity

Context = grpc.aio.ServicerContext


class UserServicer(UserServiceServicer):
    """`chatmesh.conversation.v1.UserService`."""

    def __init__(self, *, store: UserStore, purger: Purger, moderation: ModerationPeer) -> None:
        self._store = store
        self._purger = purger
        self._moderation = moderation

    async def GetSettings(
        self, request: user_service_pb2.GetSettingsRequest, context: Context[Any, Any]
    ) -> user_service_pb2.Settings:
        return _settings_to_pb(await self._store.settings(user_id=require_identity().user_id))

    async def UpdateSettings(
        self, request: user_service_pb2.UpdateSettingsRequest, context: Context[Any, Any]
    ) -> user_service_pb2.Settings:
        instructions = request.custom_instructions if request.HasField("custom_instructions") else None
        settings = await self._store.update(
            user_id=require_identity().user_id,
            custom_instructions=await self._checked(instructions) if instructions else instructions,
            default_model=request.default_model if request.HasField("default_model") else None,
        )
        return _settings_to_pb(settings)

    async def _checked(self, instructions: str) -> str:
        """What users want every model to know, as it may be kept: it is part of every turn, and would stop each."""
        verdict = await self._moderation.check_input(
            generation_id=new_id(), texts=[instructions], what="This custom instruction"
        )
        return instructions if verdict.redacted is None else verdict.redacted

    async def DeleteUserData(
        self, request: user_service_pb2.DeleteUserDataRequest, context: Context[Any, Any]
    ) -> user_service_pb2.DeleteUserDataResponse:
        if not request.confirm:
            what = "must be true: this deletes all of your data, and cannot be undone"
            raise DomainError(Reason.INVALID_FIELD, f"confirm: {what}", fields=[FieldViolation("confirm", what)])
        deleted = await self._purger.delete_user(require_identity().user_id)
        return user_service_pb2.DeleteUserDataResponse(conversations=deleted)


def _settings_to_pb(settings: Settings) -> user_service_pb2.Settings:
    return user_service_pb2.Settings(
        custom_instructions=settings.custom_instructions,
        default_model=settings.default_model,
        update_time=timestamp(settings.updated_at) if settings.updated_at else None,
    )
