"""The public API of generations: convert, call, convert."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import grpc

from chatmesh.conversation.v1 import generation_event_pb2, generation_service_pb2
from chatmesh.conversation.v1.generation_service_pb2_grpc import GenerationServiceServicer
from services.conversation.converse import Converse, ConverseSession
from services.conversation.convert import event_to_pb
from services.conversation.generation_convert import converse_from_pb, converse_to_pb, generation_to_pb, state_from_pb
from services.conversation.generation_store import GenerationStore
from services.conversation.model import GenerationState
from services.conversation.stop import StopGeneration
from services.conversation.watch import Watch
from services.runtime.identity import require_identity
from services.runtime.paging import DEFAULT_PAGE_SIZE, decode_page_token, encode_page_token
from services.runtime.validation import Validator, checks_its_items

Context = grpc.aio.ServicerContext


class GenerationServicer(GenerationServiceServicer):
    """`chatmesh.conversation.v1.GenerationService`."""

    def __init__(self, *, generations: GenerationStore, watch: Watch, stop: StopGeneration, converse: Converse) -> None:
        self._generations = generations
        self._watch = watch
        self._stop = stop
        self._converse = converse
        self._validator = Validator()

    async def GetGeneration(
        self, request: generation_service_pb2.GetGenerationRequest, context: Context[Any, Any]
    ) -> generation_service_pb2.Generation:
        user_id = require_identity().user_id
        return generation_to_pb(await self._generations.get(user_id=user_id, generation_id=request.generation_id))

    async def ListGenerations(
        self, request: generation_service_pb2.ListGenerationsRequest, context: Context[Any, Any]
    ) -> generation_service_pb2.ListGenerationsResponse:
        user_id = require_identity().user_id
        size = request.page_size or DEFAULT_PAGE_SIZE
        scope = ["generations", user_id, request.conversation_id, str(request.state)]
        rows = await self._generations.list(
            user_id=user_id,
            conversation_id=request.conversation_id,
            state=state_from_pb(request.state),
            limit=size + 1,
            before=decode_page_token(request.page_token, scope=scope, read=_position),
        )
        page = rows[:size]
        position = [page[-1].created_at.isoformat(), page[-1].id] if len(rows) > size else None
        return generation_service_pb2.ListGenerationsResponse(
            generations=[generation_to_pb(generation) for generation in page],
            next_page_token=encode_page_token(position, scope=scope) if position else "",
        )

    async def WatchGeneration(
        self, request: generation_service_pb2.WatchGenerationRequest, context: Context[Any, Any]
    ) -> AsyncIterator[generation_event_pb2.GenerationEvent]:
        user_id = require_identity().user_id
        generation = await self._generations.get(user_id=user_id, generation_id=request.generation_id)
        await self._watch.check(generation, after_seq=request.after_seq)
        ended = generation.state is not GenerationState.OPEN
        async for entries in self._watch.events(
            generation.id, after_seq=request.after_seq, ended=ended, revised=generation.revised
        ):
            for entry in entries:
                yield event_to_pb(entry, generation_id=generation.id)

    async def StopGeneration(
        self, request: generation_service_pb2.StopGenerationRequest, context: Context[Any, Any]
    ) -> generation_service_pb2.Generation:
        user_id = require_identity().user_id
        return generation_to_pb(await self._stop.stop(user_id=user_id, generation_id=request.generation_id))

    @checks_its_items
    async def Converse(
        self, request_iterator: AsyncIterator[generation_service_pb2.ConverseRequest], context: Context[Any, Any]
    ) -> AsyncIterator[generation_service_pb2.ConverseResponse]:
        said = (converse_from_pb(request, self._validator) async for request in request_iterator)
        async with ConverseSession(self._converse, require_identity(), said) as session:
            async for reply in session.replies():
                yield converse_to_pb(reply)


def _position(created_at: str, id_: str) -> tuple[datetime, str]:
    return datetime.fromisoformat(created_at), str(uuid.UUID(id_))
