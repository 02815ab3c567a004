from chatmesh.conversation.v1 import generation_event_pb2 as _generation_event_pb2
from chatmesh.type.v1 import chat_pb2 as _chat_pb2
from chatmesh.type.v1 import route_pb2 as _route_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GenerationLogEntry(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[LoggedEvent]
    def __init__(self, events: _Optional[_Iterable[_Union[LoggedEvent, _Mapping]]] = ...) -> None: ...

class LoggedEvent(_message.Message):
    __slots__ = ("event", "start", "written", "written_start", "written_end", "end", "written_tokens", "token_ids", "replaced")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    WRITTEN_FIELD_NUMBER: _ClassVar[int]
    WRITTEN_START_FIELD_NUMBER: _ClassVar[int]
    WRITTEN_END_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    WRITTEN_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    REPLACED_FIELD_NUMBER: _ClassVar[int]
    event: _generation_event_pb2.GenerationEvent
    start: LoggedStart
    written: _containers.RepeatedCompositeFieldContainer[_chat_pb2.GeneratedPiece]
    written_start: int
    written_end: int
    end: LoggedEnd
    written_tokens: int
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    replaced: _containers.RepeatedCompositeFieldContainer[LoggedReplacement]
    def __init__(self, event: _Optional[_Union[_generation_event_pb2.GenerationEvent, _Mapping]] = ..., start: _Optional[_Union[LoggedStart, _Mapping]] = ..., written: _Optional[_Iterable[_Union[_chat_pb2.GeneratedPiece, _Mapping]]] = ..., written_start: _Optional[int] = ..., written_end: _Optional[int] = ..., end: _Optional[_Union[LoggedEnd, _Mapping]] = ..., written_tokens: _Optional[int] = ..., token_ids: _Optional[_Iterable[int]] = ..., replaced: _Optional[_Iterable[_Union[LoggedReplacement, _Mapping]]] = ...) -> None: ...

class LoggedReplacement(_message.Message):
    __slots__ = ("start", "end", "text", "category")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    start: int
    end: int
    text: str
    category: str
    def __init__(self, start: _Optional[int] = ..., end: _Optional[int] = ..., text: _Optional[str] = ..., category: _Optional[str] = ...) -> None: ...

class LoggedStart(_message.Message):
    __slots__ = ("model", "max_tokens", "route")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    model: str
    max_tokens: int
    route: _route_pb2.RouteReceipt
    def __init__(self, model: _Optional[str] = ..., max_tokens: _Optional[int] = ..., route: _Optional[_Union[_route_pb2.RouteReceipt, _Mapping]] = ...) -> None: ...

class LoggedEnd(_message.Message):
    __slots__ = ("finish_reason", "usage")
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    finish_reason: _chat_pb2.FinishReason
    usage: _chat_pb2.TokenUsage
    def __init__(self, finish_reason: _Optional[_Union[_chat_pb2.FinishReason, str]] = ..., usage: _Optional[_Union[_chat_pb2.TokenUsage, _Mapping]] = ...) -> None: ...
