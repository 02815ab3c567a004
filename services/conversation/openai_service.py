"""The OpenAI-compatible surface: read, call, write."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from google.api import httpbody_pb2

from chatmesh.conversation.v1 import openai_service_pb2
from chatmesh.conversation.v1.openai_service_pb2_grpc import OpenAIServiceServicer
from services.conversation.completion import Completion, CompletionRunner
from services.conversation.convert import domain_error, error_summary
from services.conversation.generation_log import Completed, Delta, Failed
from services.conversation.model import FinishReason, TokenUsage
from services.conversation.openai_request import parse_chat_completion
from services.conversation.openai_response import (
    ChatCompletionFormat,
    error_event,
    error_json,
    model_json,
    models_json,
)
from services.conversation.peers.router import RouterPeer
from services.runtime.clock import Clock
from services.runtime.errors import DomainError, Reason, internal_error
from services.runtime.identity import current_scope, require_identity

_log = logging.getLogger(__name__)

ERROR_KEY = "x-chatmesh-openai-error"
"""Trailing metadata from which the edge takes the body of an error."""

_JSON = "application/json"
_SSE = "text/event-stream; charset=utf-8"

Context = grpc.aio.ServicerContext


class OpenAIServicer(OpenAIServiceServicer):
    """`chatmesh.conversation.v1.OpenAIService`."""

    def __init__(self, *, completions: CompletionRunner, router: RouterPeer, clock: Clock) -> None:
        self._completions = completions
        self._router = router
        self._clock = clock

    async def CreateChatCompletion(
        self, request: httpbody_pb2.HttpBody, context: Context[Any, Any]
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        with _openai_errors(context):
            identity = require_identity()
            asked = parse_chat_completion(request.data)
            completion = await self._completions.begin(identity, asked.completion)
            form = ChatCompletionFormat(
                completion_id=f"chatcmpl-{completion.log.generation_id.replace('-', '')}",
                created=int(self._clock.now().timestamp()),
                model=completion.route.model,
                include_usage=asked.include_usage,
            )
            try:
                if asked.stream:
                    async for data in _stream(completion, form):
                        yield httpbody_pb2.HttpBody(content_type=_SSE, data=data)
                else:
                    yield httpbody_pb2.HttpBody(content_type=_JSON, data=await _whole(completion, form))
            finally:
                if not completion.log.closed:
                    self._completions.stop(completion)

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
            newest = max((model.created for model in models), default=0)
            created = dict.fromkeys(aliases, newest) | {model.name: model.created for model in models}
            if request.model not in created:
                raise DomainError(
                    Reason.MODEL_NOT_FOUND,
                    f"The model '{request.model}' does not exist.",
                    metadata={"model": request.model, "known_models": ", ".join(sorted(created))},
                )
            body = json.dumps(model_json(request.model, created[request.model])).encode()
            return httpbody_pb2.HttpBody(content_type=_JSON, data=body)


async def _stream(completion: Completion, form: ChatCompletionFormat) -> AsyncIterator[bytes]:
    """The chunks, all that is ready in one piece.

    This protocol cannot take back what was sent. An answer of which something must go ends there, as one that the
    content filter ended.
    """
    seq = 0
    begun = False
    while entries := await completion.log.read(seq):
        seq = entries[-1].seq
        data = b""
        for entry in entries:
            event = entry.event
            if isinstance(event, Delta):
                data += form.text(event.text) if begun else form.first(event.text)
                begun = True
                continue
            data += b"" if begun else form.first("")
            begun = True
            match event:
                case Completed():
                    data += form.end(_reason(completion), _usage(completion))
                case Failed(error) if error.reason != Reason.CONTENT_BLOCKED:
                    data += error_event(error)
                case _:
                    yield data + form.end(FinishReason.CONTENT_FILTER, _usage(completion))
                    return
        if data:
            yield data


async def _whole(completion: Completion, form: ChatCompletionFormat) -> bytes:
    seq = 0
    while entries := await completion.log.read(seq):
        seq = entries[-1].seq
        event = entries[-1].event
        if isinstance(event, Failed) and event.error.reason != Reason.CONTENT_BLOCKED:
            raise domain_error(event.error)
    text = completion.outcome.content if completion.outcome else ""
    return form.whole(text, _reason(completion), _usage(completion))


def _reason(completion: Completion) -> FinishReason:
    return completion.outcome.finish_reason if completion.outcome else FinishReason.ERROR


def _usage(completion: Completion) -> TokenUsage:
    return completion.outcome.usage if completion.outcome else TokenUsage()


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
