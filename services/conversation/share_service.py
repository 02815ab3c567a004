"""Links to snapshots: convert, call, convert."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import grpc
from google.protobuf import empty_pb2

from chatmesh.conversation.v1 import conversation_pb2, share_service_pb2
from chatmesh.conversation.v1.share_service_pb2_grpc import ShareServiceServicer
from services.conversation.convert import ROLE_TO_PB, conversation_to_pb, timestamp
from services.conversation.fork_store import ForkStore
from services.conversation.model import Share
from services.conversation.share_store import SharedMessage, ShareStore
from services.runtime.identity import require_identity
from services.runtime.paging import DEFAULT_PAGE_SIZE, decode_page_token, encode_page_token

Context = grpc.aio.ServicerContext


class ShareServicer(ShareServiceServicer):
    """`chatmesh.conversation.v1.ShareService`."""

    def __init__(self, *, shares: ShareStore, forks: ForkStore) -> None:
        self._shares = shares
        self._forks = forks

    async def ShareConversation(
        self, request: share_service_pb2.ShareConversationRequest, context: Context[Any, Any]
    ) -> share_service_pb2.Share:
        share = await self._shares.create(
            user_id=require_identity().user_id,
            conversation_id=request.conversation_id,
            message_id=request.message_id,
        )
        return _share_to_pb(share)

    async def UnshareConversation(
        self, request: share_service_pb2.UnshareConversationRequest, context: Context[Any, Any]
    ) -> empty_pb2.Empty:
        await self._shares.delete_all(user_id=require_identity().user_id, conversation_id=request.conversation_id)
        return empty_pb2.Empty()

    async def ListShares(
        self, request: share_service_pb2.ListSharesRequest, context: Context[Any, Any]
    ) -> share_service_pb2.ListSharesResponse:
        user_id = require_identity().user_id
        size = request.page_size or DEFAULT_PAGE_SIZE
        scope = ["shares", user_id, request.conversation_id]
        rows = await self._shares.list(
            user_id=user_id,
            conversation_id=request.conversation_id,
            limit=size + 1,
            before=decode_page_token(request.page_token, scope=scope, read=_position),
        )
        page = rows[:size]
        token = ""
        if len(rows) > size:
            token = encode_page_token([page[-1].created_at.isoformat(), page[-1].token], scope=scope)
        return share_service_pb2.ListSharesResponse(
            shares=[_share_to_pb(share) for share in page], next_page_token=token
        )

    async def DeleteShare(
        self, request: share_service_pb2.DeleteShareRequest, context: Context[Any, Any]
    ) -> empty_pb2.Empty:
        await self._shares.delete(user_id=require_identity().user_id, token=request.token)
        return empty_pb2.Empty()

    async def GetSharedConversation(
        self, request: share_service_pb2.GetSharedConversationRequest, context: Context[Any, Any]
    ) -> share_service_pb2.SharedConversation:
        # Without identity: who knows the link may read.
        scope = ["shared", request.token]
        page = await self._shares.read(
            token=request.token,
            limit=request.page_size or DEFAULT_PAGE_SIZE,
            after=decode_page_token(request.page_token, scope=scope, read=_depth) or 0,
        )
        return share_service_pb2.SharedConversation(
            title=page.title,
            create_time=timestamp(page.created_at),
            messages=[_message_to_pb(message) for message in page.messages],
            next_page_token="" if page.next_after is None else encode_page_token([page.next_after], scope=scope),
        )

    async def ContinueSharedConversation(
        self, request: share_service_pb2.ContinueSharedConversationRequest, context: Context[Any, Any]
    ) -> conversation_pb2.Conversation:
        return conversation_to_pb(
            await self._forks.continue_shared(
                user_id=require_identity().user_id, token=request.token, request_id=request.request_id
            )
        )


def _share_to_pb(share: Share) -> share_service_pb2.Share:
    return share_service_pb2.Share(
        token=share.token,
        conversation_id=share.conversation_id,
        message_id=share.message_id,
        title=share.title,
        create_time=timestamp(share.created_at),
    )


def _message_to_pb(message: SharedMessage) -> share_service_pb2.SharedMessage:
    return share_service_pb2.SharedMessage(
        role=ROLE_TO_PB[message.role],
        content=message.content,
        model=message.model,
        create_time=timestamp(message.created_at),
    )


def _position(time: str, token: str) -> tuple[datetime, str]:
    return datetime.fromisoformat(time), str(token)


def _depth(value: int) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(value)
    return value
