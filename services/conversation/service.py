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
from services.conversation.appeals import Appeals
from services.conversation.convert import (
    conversation_to_pb,
    domain_error,
    event_to_pb,
    message_to_pb,
    sampling_from_pb,
)
from services.conversation.feedback_store import FeedbackStore
from services.conversation.fork_store import ForkStore
from services.conversation.generation_log import Completed, Failed
from services.conversation.message_store import MessageStore
from services.conversation.model import ConversationOrder
from services.conversation.request_convert import (
    chat_message_from_pb,
    feedback_reason_from_pb,
    newest_first,
    order_from_pb,
    rating_from_pb,
    search_hit_to_pb,
    time_from_pb,
    turn_from_edit,
    turn_from_regenerate,
    turn_from_send,
)
from services.conversation.search_store import SearchStore
from services.conversation.store import ConversationStore
from services.conversation.temporary import TemporaryChat
from services.conversation.turn import TurnRequest, TurnRunner
from services.runtime.identity import require_identity
from services.runtime.paging import DEFAULT_PAGE_SIZE, decode_page_token, encode_page_token

Context = grpc.aio.ServicerContext


class ConversationServicer(ConversationServiceServicer):
    """`chatmesh.conversation.v1.ConversationService`."""

    def __init__(
        self,
        *,
        store: ConversationStore,
        messages: MessageStore,
        search: SearchStore,
        forks: ForkStore,
        feedback: FeedbackStore,
        turns: TurnRunner,
        temporary: TemporaryChat,
        appeals: Appeals,
    ) -> None:
        self._store = store
        self._messages = messages
        self._search = search
        self._forks = forks
        self._feedback = feedback
        self._turns = turns
        self._temporary = temporary
        self._appeals = appeals

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
        order = order_from_pb(request.order)
        pinned = request.pinned if request.HasField("pinned") else None
        scope = ["conversations", user_id, order.value, f"{pinned} {request.archived} {request.deleted}"]
        rows = await self._store.list(
            user_id=user_id,
            limit=size + 1,
            before=decode_page_token(request.page_token, scope=scope, read=_position),
            order=order,
            pinned=pinned,
            archived=request.archived,
            deleted=request.deleted,
        )
        page = rows[:size]
        token = ""
        if len(rows) > size:
            time = page[-1].created_at if order is ConversationOrder.CREATED else page[-1].updated_at
            token = encode_page_token([time.isoformat(), page[-1].id], scope=scope)
        return conversation_service_pb2.ListConversationsResponse(
            conversations=[conversation_to_pb(c) for c in page], next_page_token=token
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
            pinned=request.pinned if request.HasField("pinned") else None,
            archived=request.archived if request.HasField("archived") else None,
        )
        return conversation_to_pb(conversation)

    async def DeleteConversation(
        self, request: conversation_service_pb2.DeleteConversationRequest, context: Context[Any, Any]
    ) -> empty_pb2.Empty:
        await self._store.delete(user_id=require_identity().user_id, conversation_id=request.conversation_id)
        return empty_pb2.Empty()

    async def UndeleteConversation(
        self, request: conversation_service_pb2.UndeleteConversationRequest, context: Context[Any, Any]
    ) -> conversation_pb2.Conversation:
        return conversation_to_pb(
            await self._store.undelete(user_id=require_identity().user_id, conversation_id=request.conversation_id)
        )

    async def SearchConversations(
        self, request: conversation_service_pb2.SearchConversationsRequest, context: Context[Any, Any]
    ) -> conversation_service_pb2.SearchConversationsResponse:
        user_id = require_identity().user_id
        size = request.page_size or DEFAULT_PAGE_SIZE
        start = time_from_pb(request.start_time) if request.HasField("start_time") else None
        end = time_from_pb(request.end_time) if request.HasField("end_time") else None
        scope = ["search", user_id, request.query, request.model, str(start), str(end)]
        hits = await self._search.search(
            user_id=user_id,
            query=request.query,
            model=request.model,
            start=start,
            end=end,
            limit=size + 1,
            before=decode_page_token(request.page_token, scope=scope, read=_position),
        )
        page = hits[:size]
        token = ""
        if len(hits) > size:
            last = page[-1]
            position = [last.created_at.isoformat(), last.message_id or last.conversation.id]
            token = encode_page_token(position, scope=scope)
        return conversation_service_pb2.SearchConversationsResponse(
            results=[search_hit_to_pb(hit) for hit in page], next_page_token=token
        )

    async def BranchConversation(
        self, request: conversation_service_pb2.BranchConversationRequest, context: Context[Any, Any]
    ) -> conversation_pb2.Conversation:
        return conversation_to_pb(
            await self._forks.fork(
                user_id=require_identity().user_id,
                conversation_id=request.conversation_id,
                message_id=request.message_id,
                title=request.title,
                request_id=request.request_id,
            )
        )

    async def ListMessages(
        self, request: conversation_service_pb2.ListMessagesRequest, context: Context[Any, Any]
    ) -> conversation_service_pb2.ListMessagesResponse:
        size = request.page_size or DEFAULT_PAGE_SIZE
        descending = newest_first(request.order)
        scope = ["messages", request.conversation_id, request.leaf_message_id, "desc" if descending else "asc"]
        # The branch of the first page is that of all pages, whatever is shown meanwhile.
        after, leaf = decode_page_token(request.page_token, scope=scope, read=_depth_and_leaf) or (None, "")
        found = await self._messages.list_branch(
            user_id=require_identity().user_id,
            conversation_id=request.conversation_id,
            leaf_message_id=request.leaf_message_id or leaf,
            limit=size + 1,
            after=after,
            newest_first=descending,
        )
        page = found.messages[:size]
        more = len(found.messages) > size
        return conversation_service_pb2.ListMessagesResponse(
            messages=[message_to_pb(m) for m in page],
            next_page_token=encode_page_token([page[-1].depth, found.leaf_message_id], scope=scope) if more else "",
        )

    async def GetMessage(
        self, request: conversation_service_pb2.GetMessageRequest, context: Context[Any, Any]
    ) -> conversation_pb2.Message:
        return message_to_pb(
            await self._messages.get(
                user_id=require_identity().user_id,
                conversation_id=request.conversation_id,
                message_id=request.message_id,
            )
        )

    async def SelectMessage(
        self, request: conversation_service_pb2.SelectMessageRequest, context: Context[Any, Any]
    ) -> conversation_pb2.Conversation:
        return conversation_to_pb(
            await self._messages.select(
                user_id=require_identity().user_id,
                conversation_id=request.conversation_id,
                message_id=request.message_id,
            )
        )

    async def RateMessage(
        self, request: conversation_service_pb2.RateMessageRequest, context: Context[Any, Any]
    ) -> conversation_pb2.Message:
        return message_to_pb(
            await self._feedback.rate(
                user_id=require_identity().user_id,
                conversation_id=request.conversation_id,
                message_id=request.message_id,
                rating=rating_from_pb(request.rating),
                reason=feedback_reason_from_pb(request.reason),
                comment=request.comment,
            )
        )

    async def AppealMessage(
        self, request: conversation_service_pb2.AppealMessageRequest, context: Context[Any, Any]
    ) -> conversation_pb2.Message:
        return message_to_pb(
            await self._appeals.appeal(
                user_id=require_identity().user_id,
                conversation_id=request.conversation_id,
                message_id=request.message_id,
                appeal=request.appeal,
            )
        )

    async def SendMessage(
        self, request: conversation_service_pb2.SendMessageRequest, context: Context[Any, Any]
    ) -> conversation_pb2.Message:
        begun = await self._turns.begin(require_identity(), turn_from_send(request))
        if begun.answer is not None:
            # At once: who sends a message again is not patient.
            if begun.answer.error is not None:
                raise domain_error(begun.answer.error)
            return message_to_pb(begun.answer)
        async for entries in self._turns.events(begun):
            event = entries[-1].event
            if isinstance(event, Failed):
                raise domain_error(event.error)
            if isinstance(event, Completed) and event.message is not None:
                return message_to_pb(event.message)
        raise AssertionError("a log ends in a terminal event")

    async def StreamMessage(
        self, request: conversation_service_pb2.SendMessageRequest, context: Context[Any, Any]
    ) -> AsyncIterator[generation_event_pb2.GenerationEvent]:
        async for event in self._turn(turn_from_send(request)):
            yield event

    async def EditMessage(
        self, request: conversation_service_pb2.EditMessageRequest, context: Context[Any, Any]
    ) -> AsyncIterator[generation_event_pb2.GenerationEvent]:
        async for event in self._turn(turn_from_edit(request)):
            yield event

    async def RegenerateMessage(
        self, request: conversation_service_pb2.RegenerateMessageRequest, context: Context[Any, Any]
    ) -> AsyncIterator[generation_event_pb2.GenerationEvent]:
        async for event in self._turn(turn_from_regenerate(request)):
            yield event

    async def StreamTemporaryMessage(
        self, request: conversation_service_pb2.StreamTemporaryMessageRequest, context: Context[Any, Any]
    ) -> AsyncIterator[generation_event_pb2.GenerationEvent]:
        completion = await self._temporary.begin(
            require_identity(),
            messages=[chat_message_from_pb(message) for message in request.messages],
            model=request.model,
            system_prompt=request.system_prompt,
            sampling=sampling_from_pb(request.sampling),
        )
        async for entries in self._temporary.events(completion):
            for entry in entries:
                yield event_to_pb(entry, generation_id=completion.log.generation_id)

    async def _turn(self, request: TurnRequest) -> AsyncIterator[generation_event_pb2.GenerationEvent]:
        begun = await self._turns.begin(require_identity(), request)
        async for entries in self._turns.events(begun):
            for entry in entries:
                yield event_to_pb(entry, generation_id=begun.generation_id)


def _position(time: str, id_: str) -> tuple[datetime, str]:
    return datetime.fromisoformat(time), str(uuid.UUID(id_))


def _depth_and_leaf(depth: int, leaf: str) -> tuple[int | None, str]:
    return int(depth), str(uuid.UUID(leaf))
