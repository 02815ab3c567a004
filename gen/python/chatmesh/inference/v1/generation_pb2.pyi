from chatmesh.type.v1 import chat_pb2 as _chat_pb2
from chatmesh.type.v1 import limits_pb2 as _limits_pb2
from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GenerationStart(_message.Message):
    __slots__ = ("generation_id", "model", "messages", "sampling", "traceparent", "continuation")
    GENERATION_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    CONTINUATION_FIELD_NUMBER: _ClassVar[int]
    generation_id: str
    model: str
    messages: _containers.RepeatedCompositeFieldContainer[_chat_pb2.ChatMessage]
    sampling: _chat_pb2.SamplingOptions
    traceparent: str
    continuation: _containers.RepeatedCompositeFieldContainer[_chat_pb2.GeneratedPiece]
    def __init__(self, generation_id: _Optional[str] = ..., model: _Optional[str] = ..., messages: _Optional[_Iterable[_Union[_chat_pb2.ChatMessage, _Mapping]]] = ..., sampling: _Optional[_Union[_chat_pb2.SamplingOptions, _Mapping]] = ..., traceparent: _Optional[str] = ..., continuation: _Optional[_Iterable[_Union[_chat_pb2.GeneratedPiece, _Mapping]]] = ...) -> None: ...

class GenerationDelta(_message.Message):
    __slots__ = ("generation_id", "text", "token_ids", "token_count", "end")
    GENERATION_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_COUNT_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    generation_id: str
    text: str
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    token_count: int
    end: GenerationEnd
    def __init__(self, generation_id: _Optional[str] = ..., text: _Optional[str] = ..., token_ids: _Optional[_Iterable[int]] = ..., token_count: _Optional[int] = ..., end: _Optional[_Union[GenerationEnd, _Mapping]] = ...) -> None: ...

class GenerationEnd(_message.Message):
    __slots__ = ("finish_reason", "usage", "error", "queue_ms")
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    QUEUE_MS_FIELD_NUMBER: _ClassVar[int]
    finish_reason: _chat_pb2.FinishReason
    usage: _chat_pb2.TokenUsage
    error: _status_pb2.Status
    queue_ms: float
    def __init__(self, finish_reason: _Optional[_Union[_chat_pb2.FinishReason, str]] = ..., usage: _Optional[_Union[_chat_pb2.TokenUsage, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., queue_ms: _Optional[float] = ...) -> None: ...
