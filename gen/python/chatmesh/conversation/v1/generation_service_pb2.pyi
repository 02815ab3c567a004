import datetime

from chatmesh.conversation.v1 import conversation_pb2 as _conversation_pb2
from chatmesh.conversation.v1 import conversation_service_pb2 as _conversation_service_pb2
from chatmesh.conversation.v1 import generation_event_pb2 as _generation_event_pb2
from chatmesh.type.v1 import limits_pb2 as _limits_pb2
from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GenerationState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GENERATION_STATE_UNSPECIFIED: _ClassVar[GenerationState]
    GENERATION_STATE_OPEN: _ClassVar[GenerationState]
    GENERATION_STATE_COMPLETED: _ClassVar[GenerationState]
    GENERATION_STATE_STOPPED: _ClassVar[GenerationState]
    GENERATION_STATE_FAILED: _ClassVar[GenerationState]
    GENERATION_STATE_BLOCKED: _ClassVar[GenerationState]
GENERATION_STATE_UNSPECIFIED: GenerationState
GENERATION_STATE_OPEN: GenerationState
GENERATION_STATE_COMPLETED: GenerationState
GENERATION_STATE_STOPPED: GenerationState
GENERATION_STATE_FAILED: GenerationState
GENERATION_STATE_BLOCKED: GenerationState

class Generation(_message.Message):
    __slots__ = ("id", "conversation_id", "user_message_id", "message_id", "state", "epoch", "requested_model", "create_time", "finish_time")
    ID_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    USER_MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_MODEL_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    FINISH_TIME_FIELD_NUMBER: _ClassVar[int]
    id: str
    conversation_id: str
    user_message_id: str
    message_id: str
    state: GenerationState
    epoch: int
    requested_model: str
    create_time: _timestamp_pb2.Timestamp
    finish_time: _timestamp_pb2.Timestamp
    def __init__(self, id: _Optional[str] = ..., conversation_id: _Optional[str] = ..., user_message_id: _Optional[str] = ..., message_id: _Optional[str] = ..., state: _Optional[_Union[GenerationState, str]] = ..., epoch: _Optional[int] = ..., requested_model: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., finish_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class GetGenerationRequest(_message.Message):
    __slots__ = ("generation_id",)
    GENERATION_ID_FIELD_NUMBER: _ClassVar[int]
    generation_id: str
    def __init__(self, generation_id: _Optional[str] = ...) -> None: ...

class ListGenerationsRequest(_message.Message):
    __slots__ = ("conversation_id", "state", "page_size", "page_token")
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    conversation_id: str
    state: GenerationState
    page_size: int
    page_token: str
    def __init__(self, conversation_id: _Optional[str] = ..., state: _Optional[_Union[GenerationState, str]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListGenerationsResponse(_message.Message):
    __slots__ = ("generations", "next_page_token")
    GENERATIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    generations: _containers.RepeatedCompositeFieldContainer[Generation]
    next_page_token: str
    def __init__(self, generations: _Optional[_Iterable[_Union[Generation, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WatchGenerationRequest(_message.Message):
    __slots__ = ("generation_id", "after_seq")
    GENERATION_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQ_FIELD_NUMBER: _ClassVar[int]
    generation_id: str
    after_seq: int
    def __init__(self, generation_id: _Optional[str] = ..., after_seq: _Optional[int] = ...) -> None: ...

class StopGenerationRequest(_message.Message):
    __slots__ = ("generation_id",)
    GENERATION_ID_FIELD_NUMBER: _ClassVar[int]
    generation_id: str
    def __init__(self, generation_id: _Optional[str] = ...) -> None: ...

class ConverseRequest(_message.Message):
    __slots__ = ("tag", "open", "send", "edit", "regenerate", "watch", "stop", "acknowledge")
    TAG_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    SEND_FIELD_NUMBER: _ClassVar[int]
    EDIT_FIELD_NUMBER: _ClassVar[int]
    REGENERATE_FIELD_NUMBER: _ClassVar[int]
    WATCH_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGE_FIELD_NUMBER: _ClassVar[int]
    tag: str
    open: ConverseOpen
    send: _conversation_service_pb2.SendMessageRequest
    edit: _conversation_service_pb2.EditMessageRequest
    regenerate: _conversation_service_pb2.RegenerateMessageRequest
    watch: WatchGenerationRequest
    stop: StopGenerationRequest
    acknowledge: ConverseAcknowledge
    def __init__(self, tag: _Optional[str] = ..., open: _Optional[_Union[ConverseOpen, _Mapping]] = ..., send: _Optional[_Union[_conversation_service_pb2.SendMessageRequest, _Mapping]] = ..., edit: _Optional[_Union[_conversation_service_pb2.EditMessageRequest, _Mapping]] = ..., regenerate: _Optional[_Union[_conversation_service_pb2.RegenerateMessageRequest, _Mapping]] = ..., watch: _Optional[_Union[WatchGenerationRequest, _Mapping]] = ..., stop: _Optional[_Union[StopGenerationRequest, _Mapping]] = ..., acknowledge: _Optional[_Union[ConverseAcknowledge, _Mapping]] = ...) -> None: ...

class ConverseOpen(_message.Message):
    __slots__ = ("max_unacknowledged",)
    MAX_UNACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    max_unacknowledged: int
    def __init__(self, max_unacknowledged: _Optional[int] = ...) -> None: ...

class ConverseAcknowledge(_message.Message):
    __slots__ = ("generation_id", "seq")
    GENERATION_ID_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    generation_id: str
    seq: int
    def __init__(self, generation_id: _Optional[str] = ..., seq: _Optional[int] = ...) -> None: ...

class ConverseResponse(_message.Message):
    __slots__ = ("tag", "event", "error", "stopped")
    TAG_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    STOPPED_FIELD_NUMBER: _ClassVar[int]
    tag: str
    event: _generation_event_pb2.GenerationEvent
    error: _conversation_pb2.ErrorSummary
    stopped: Generation
    def __init__(self, tag: _Optional[str] = ..., event: _Optional[_Union[_generation_event_pb2.GenerationEvent, _Mapping]] = ..., error: _Optional[_Union[_conversation_pb2.ErrorSummary, _Mapping]] = ..., stopped: _Optional[_Union[Generation, _Mapping]] = ...) -> None: ...
