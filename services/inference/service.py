"""`chatmesh.inference.v1.InferenceService`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import grpc

from chatmesh.inference.v1 import inference_service_pb2, inference_service_pb2_grpc
from services.inference import convert
from services.inference.merging import merge
from services.inference.model import Delta
from services.inference.peer import Peer
from services.inference.replica import Replica
from services.runtime.errors import DomainError
from services.runtime.mux import Outbox, OutboxClosed
from services.runtime.validation import Validator, checks_its_items

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]


class InferenceService(inference_service_pb2_grpc.InferenceServiceServicer):
    """Converts, calls the replica, converts back."""

    def __init__(self, *, replica: Replica, validator: Validator) -> None:
        self._replica = replica
        self._validator = validator

    @checks_its_items
    async def Generate(
        self, request_iterator: AsyncIterator[inference_service_pb2.GenerateRequest], context: Context
    ) -> AsyncIterator[inference_service_pb2.GenerateResponse]:
        """One reader of requests, one writer of whatever is ready, for all generations of the peer."""
        outbox: Outbox[Delta] = Outbox()
        peer = Peer(replica=self._replica, put=outbox.put)
        reader = asyncio.create_task(self._read(request_iterator, peer), name="reader")
        closing = asyncio.create_task(self._replica.closing.wait(), name="closing")
        for task in (reader, closing):
            task.add_done_callback(lambda _: outbox.close())
        try:
            while True:
                yield convert.to_generate_response(merge(await outbox.drain()))
        except OutboxClosed:
            if reader.done():
                reader.result()
        finally:
            outbox.close()
            peer.close()
            reader.cancel()
            closing.cancel()

    async def CountTokens(
        self, request: inference_service_pb2.CountTokensRequest, context: Context
    ) -> inference_service_pb2.CountTokensResponse:
        """Count tokens with the model's own tokenizer."""
        return convert.to_count_tokens_response(await self._replica.count_tokens(request.model, request.texts))

    async def Embed(
        self, request: inference_service_pb2.EmbedRequest, context: Context
    ) -> inference_service_pb2.EmbedResponse:
        """Turn texts into vectors."""
        embeddings = await self._replica.embed(request.model, request.texts, convert.to_priority(request.priority))
        return convert.to_embed_response(embeddings)

    async def WatchStatus(
        self, request: inference_service_pb2.WatchStatusRequest, context: Context
    ) -> AsyncIterator[inference_service_pb2.WatchStatusResponse]:
        """Stream the live state."""
        async with aclosing(self._replica.watch()) as states:
            async for state in states:
                yield convert.to_watch_status_response(state)

    async def _read(self, requests: AsyncIterator[inference_service_pb2.GenerateRequest], peer: Peer) -> None:
        async for request in requests:
            for start in request.starts:
                try:
                    self._validator.validate(start)
                    peer.start(convert.to_request(start, key=self._replica.new_key()))
                except DomainError as error:
                    peer.refuse(start.generation_id, error)
            if request.cancels:
                peer.cancel(request.cancels)
