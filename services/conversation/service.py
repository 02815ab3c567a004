"""The public API: convert, call, convert."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import grpc
from google.protobuf import empty_pb2

from chatmesh.conversation.v1 import conversation_pb2, conversation_service_pb2, generation_event_pb2
from chatmesh.conversation.v1.conversation_service_pb2_grpc import ConversationServiceServicer
from services.conversation.convert import (
    conversation_to_pb,
    domain_error,
    event_to_pb,
    message_to_pb,
    newest_first,
    sampling_from_pb,
)
from services.conversation.generation_log import Completed, Failed, GenerationLog
from services.conversation.store import ConversationStore
from services.conversation.turn import TurnRequest, TurnRunner
from services.runtime.identity import require_identity
from services.runtime.paging import DEFAULT_PAGE_SIZE, decode_page_token, encode_page_token

Context = grpc.aio.ServicerContext


class ConversationServicer(ConversationServiceServicer):
    """`chatmesh.conversation.v1.ConversationService`."""

    def __init__(self, *, store: ConversationStore, turns: TurnRunner) -> None:
        self._store = store
        self._turns = turns

    async def CreateConversation(
        self, request: conversation_service_pb2.CreateConversationRequest, context: Context[Any, Any]
    ) -> conversation_pb2.Conversation:
        conversation = await self._store.create(
            user_id=require_identity().user_id,
            title=request.title,
            model=request.model,
            system_prompt=request.system_prompt,
            request_id=request.request_id,
        )
        return conversation_to_pb(conversation)

    async def GetConversation(
        self, request: conversation_service_pb2.GetConversationRequest, context: Context[Any, Any]
    ) -> conversation_pb2.Conversation:
        return conversation_to_pb(
            await self._store.get(user_id=require_identity().user_id, conversation_id=request.conversation_id)
        )

    async def ListConversations(
        self, request: conversation_service_pb2.ListConversationsRequest, context: Context[Any, Any]
    ) -> conversation_service_pb2.ListConversationsResponse:
        user_id = require_identity().user_id
        size = request.page_size or DEFAULT_PAGE_SIZE
        scope = ["conversations", user_id]
        rows = await self._store.list(
            user_id=user_id,
            limit=size + 1,
            before=decode_page_token(request.page_token, scope=scope, read=_conversation_position),
        )
        page = rows[:size]
        more = len(rows) > size
        return conversation_service_pb2.ListConversationsResponse(
            conversations=[conversation_to_pb(c) for c in page],
            next_page_token=encode_page_token([page[-1].updated_at.isoformat(), page[-1].id], scope=scope)
            if more
            else "",
        )

    async def UpdateConversation(
        self, request: conversation_service_pb2.UpdateConversationRequest, context: Context[Any, Any]
    ) -> conversation_pb2.Conversation:
        conversation = await self._store.update(
            user_id=require_identity().user_id,
            conversation_id=request.conversation_id,
            title=request.title if request.HasField("title") else None,
            model=request.model if request.HasField("model") else None,
            system_prompt=request.system_prompt if request.HasField("system_prompt") else None,
        )
        return conversation_to_pb(conversation)

    async def DeleteConversation(
        self, request: conversation_service_pb2.DeleteConversationRequest, context: Context[Any, Any]
    ) -> empty_pb2.Empty:
        await self._store.delete(user_id=require_identity().user_id, conversation_id=request.conversation_id)
        return empty_pb2.Empty()

    async def ListMessages(
        self, request: conversation_service_pb2.ListMessagesRequest, context: Context[Any, Any]
    ) -> conversation_service_pb2.ListMessagesResponse:
        size = request.page_size or DEFAULT_PAGE_SIZE
        descending = newest_first(request.order)
        scope = ["messages", request.conversation_id, "desc" if descending else "asc"]
        position = decode_page_token(request.page_token, scope=scope, read=int)
        rows = await self._store.list_messages(
            user_id=require_identity().user_id,
            conversation_id=request.conversation_id,
            limit=size + 1,
            after=position,
            newest_first=descending,
        )
        page = rows[:size]
        more = len(rows) > size
        return conversation_service_pb2.ListMessagesResponse(
            messages=[message_to_pb(m) for m in page],
            next_page_token=encode_page_token([page[-1].sequence], scope=scope) if more else "",
        )

    async def SendMessage(
        self, request: conversation_service_pb2.SendMessageRequest, context: Context[Any, Any]
    ) -> conversation_pb2.Message:
        log = await self._begin(request)
        seq = 0
        while entries := await log.read(seq):
            seq = entries[-1].seq
            event = entries[-1].event
            if isinstance(event, Failed):
                raise domain_error(event.error)
            if isinstance(event, Completed) and event.message is not None:
                return message_to_pb(event.message)
        raise AssertionError("a log ends in a terminal event")

    async def StreamMessage(
        self, request: conversation_service_pb2.SendMessageRequest, context: Context[Any, Any]
    ) -> AsyncIterator[generation_event_pb2.GenerationEvent]:
        log = await self._begin(request)
        seq = 0
        while entries := await log.read(seq):
            seq = entries[-1].seq
            for entry in entries:
                yield event_to_pb(entry, generation_id=log.generation_id, epoch=log.epoch)

    async def _begin(self, request: conversation_service_pb2.SendMessageRequest) -> GenerationLog:
        return await self._turns.begin(
            require_identity(),
            TurnRequest(
                conversation_id=request.conversation_id,
                content=request.content,
                model=request.model,
                sampling=sampling_from_pb(request.sampling),
                request_id=request.request_id,
            ),
        )


def _conversation_position(updated_at: str, id_: str) -> tuple[datetime, str]:
    return datetime.fromisoformat(updated_at), str(uuid.UUID(id_))
