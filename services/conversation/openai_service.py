"""The OpenAI-compatible surface: read, call, write."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import grpc
from google.api import httpbody_pb2

from chatmesh.conversation.v1 import openai_service_pb2
from chatmesh.conversation.v1.openai_service_pb2_grpc import OpenAIServiceServicer
from services.conversation.completion import CompletionRunner
from services.conversation.convert import error_summary
from services.conversation.embedding import Embedder
from services.conversation.openai_embeddings import embeddings_error, embeddings_json, parse_embeddings
from services.conversation.openai_models import model_json, models_json
from services.conversation.openai_moderations import moderations_json, parse_moderations
from services.conversation.openai_request import in_openais_words, parse_chat_completion
from services.conversation.openai_response import error_json
from services.conversation.openai_stream import CompletionWriter
from services.conversation.peers.classification import ClassificationPeer
from services.conversation.peers.router import RouterPeer
from services.conversation.route_header import ROUTE_KEY, route_header
from services.conversation.route_model import RouteReceipt
from services.runtime.clock import Clock
from services.runtime.errors import DomainError, internal_error
from services.runtime.identity import current_scope, require_identity

_log = logging.getLogger(__name__)

ERROR_KEY = "x-chatmesh-openai-error"
"""Trailing metadata from which the edge takes the body of an error."""

_JSON = "application/json"
_SSE = "text/event-stream; charset=utf-8"

Context = grpc.aio.ServicerContext


class OpenAIServicer(OpenAIServiceServicer):
    """`chatmesh.conversation.v1.OpenAIService`."""

    def __init__(
        self,
        *,
        completions: CompletionRunner,
        embedder: Embedder,
        classification: ClassificationPeer,
        router: RouterPeer,
        clock: Clock,
    ) -> None:
        self._completions = completions
        self._embedder = embedder
        self._classification = classification
        self._router = router
        self._clock = clock

    async def CreateChatCompletion(
        self, request: httpbody_pb2.HttpBody, context: Context[Any, Any]
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        with _openai_errors(context):
            identity = require_identity()
            asked = parse_chat_completion(request.data)
            try:
                completion = await self._completions.begin(identity, asked.completion)
            except DomainError as error:
                raise in_openais_words(error, asked.completion) from error
            writer = CompletionWriter(
                completion,
                asked,
                created=int(self._clock.now().timestamp()),
                stop=self._completions.stop_choice,
            )
            try:
                if not asked.stream:
                    data = await writer.whole()
                    await _send_route(context, completion.route)
                    yield httpbody_pb2.HttpBody(content_type=_JSON, data=data)
                    return
                begun = False
                async with aclosing(writer.chunks()) as chunks:
                    async for data in chunks:
                        if not begun:
                            await _send_route(context, completion.route)
                            begun = True
                        yield httpbody_pb2.HttpBody(content_type=_SSE, data=data)
            finally:
                self._completions.stop(completion)

    async def CreateEmbedding(
        self, request: httpbody_pb2.HttpBody, context: Context[Any, Any]
    ) -> httpbody_pb2.HttpBody:
        with _openai_errors(context):
            identity = require_identity()
            asked = parse_embeddings(request.data)
            try:
                made = await self._embedder.embed(
                    identity, model=asked.model, texts=asked.texts, dimensions=asked.dimensions
                )
            except DomainError as error:
                raise embeddings_error(error, asked.model) from error
            # Hundreds of thousands of numbers are written while others' answers go on.
            data = await asyncio.to_thread(embeddings_json, made, as_base64=asked.as_base64)
            await _send_route(context, made.receipt)
            return httpbody_pb2.HttpBody(content_type=_JSON, data=data)

    async def CreateModeration(
        self, request: httpbody_pb2.HttpBody, context: Context[Any, Any]
    ) -> httpbody_pb2.HttpBody:
        with _openai_errors(context):
            require_identity()
            asked = parse_moderations(request.data)
            found = await self._classification.classify(asked.texts)
            return httpbody_pb2.HttpBody(content_type=_JSON, data=moderations_json(asked, found))

    async def ListModels(
        self, request: openai_service_pb2.ListModelsRequest, context: Context[Any, Any]
    ) -> httpbody_pb2.HttpBody:
        with _openai_errors(context):
            models, aliases = await self._router.list_models(tier=require_identity().tier)
            return httpbody_pb2.HttpBody(content_type=_JSON, data=models_json(models, aliases))

    async def GetModel(
        self, request: openai_service_pb2.GetModelRequest, context: Context[Any, Any]
    ) -> httpbody_pb2.HttpBody:
        with _openai_errors(context):
            models, aliases = await self._router.list_models(tier=require_identity().tier)
            return httpbody_pb2.HttpBody(content_type=_JSON, data=model_json(request.model, models, aliases))


async def _send_route(context: Context[Any, Any], route: RouteReceipt) -> None:
    """What is known of the route goes ahead of the body, as a header."""
    await context.send_initial_metadata(((ROUTE_KEY, route_header(route)),))


@contextmanager
def _openai_errors(context: Context[Any, Any]) -> Iterator[None]:
    """Send errors in OpenAI's shape beside the status, for the edge to take as the body."""
    try:
        yield
    except DomainError as error:
        context.set_trailing_metadata(((ERROR_KEY, error_json(error_summary(error))),))
        raise
    except Exception as error:
        _log.exception("unhandled error")
        internal = internal_error(current_scope().request_id)
        context.set_trailing_metadata(((ERROR_KEY, error_json(error_summary(internal))),))
        raise internal from error
