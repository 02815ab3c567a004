from chatmesh.conversation.v1 import conversation_pb2 as _conversation_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class NoticeKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NOTICE_KIND_UNSPECIFIED: _ClassVar[NoticeKind]
    NOTICE_KIND_RESUME_UNAVAILABLE: _ClassVar[NoticeKind]
    NOTICE_KIND_RESUME_AVAILABLE: _ClassVar[NoticeKind]
    NOTICE_KIND_ENGINE_REPLACED: _ClassVar[NoticeKind]
    NOTICE_KIND_OWNER_REPLACED: _ClassVar[NoticeKind]
    NOTICE_KIND_ESCALATED: _ClassVar[NoticeKind]
NOTICE_KIND_UNSPECIFIED: NoticeKind
NOTICE_KIND_RESUME_UNAVAILABLE: NoticeKind
NOTICE_KIND_RESUME_AVAILABLE: NoticeKind
NOTICE_KIND_ENGINE_REPLACED: NoticeKind
NOTICE_KIND_OWNER_REPLACED: NoticeKind
NOTICE_KIND_ESCALATED: NoticeKind

class GenerationEvent(_message.Message):
    __slots__ = ("generation_id", "epoch", "seq", "started", "delta", "retracted", "completed", "failed", "notice")
    GENERATION_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    RETRACTED_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    generation_id: str
    epoch: int
    seq: int
    started: GenerationStarted
    delta: GenerationDelta
    retracted: GenerationRetracted
    completed: GenerationCompleted
    failed: GenerationFailed
    notice: GenerationNotice
    def __init__(self, generation_id: _Optional[str] = ..., epoch: _Optional[int] = ..., seq: _Optional[int] = ..., started: _Optional[_Union[GenerationStarted, _Mapping]] = ..., delta: _Optional[_Union[GenerationDelta, _Mapping]] = ..., retracted: _Optional[_Union[GenerationRetracted, _Mapping]] = ..., completed: _Optional[_Union[GenerationCompleted, _Mapping]] = ..., failed: _Optional[_Union[GenerationFailed, _Mapping]] = ..., notice: _Optional[_Union[GenerationNotice, _Mapping]] = ...) -> None: ...

class GenerationStarted(_message.Message):
    __slots__ = ("conversation_id", "user_message_id", "message_id")
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    USER_MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    conversation_id: str
    user_message_id: str
    message_id: str
    def __init__(self, conversation_id: _Optional[str] = ..., user_message_id: _Optional[str] = ..., message_id: _Optional[str] = ...) -> None: ...

class GenerationDelta(_message.Message):
    __slots__ = ("text",)
    TEXT_FIELD_NUMBER: _ClassVar[int]
    text: str
    def __init__(self, text: _Optional[str] = ...) -> None: ...

class GenerationRetracted(_message.Message):
    __slots__ = ("start", "end", "replacement", "category")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    REPLACEMENT_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    start: int
    end: int
    replacement: str
    category: str
    def __init__(self, start: _Optional[int] = ..., end: _Optional[int] = ..., replacement: _Optional[str] = ..., category: _Optional[str] = ...) -> None: ...

class GenerationCompleted(_message.Message):
    __slots__ = ("message",)
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    message: _conversation_pb2.Message
    def __init__(self, message: _Optional[_Union[_conversation_pb2.Message, _Mapping]] = ...) -> None: ...

class GenerationFailed(_message.Message):
    __slots__ = ("error", "message")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    error: _conversation_pb2.ErrorSummary
    message: _conversation_pb2.Message
    def __init__(self, error: _Optional[_Union[_conversation_pb2.ErrorSummary, _Mapping]] = ..., message: _Optional[_Union[_conversation_pb2.Message, _Mapping]] = ...) -> None: ...

class GenerationNotice(_message.Message):
    __slots__ = ("kind",)
    KIND_FIELD_NUMBER: _ClassVar[int]
    kind: NoticeKind
    def __init__(self, kind: _Optional[_Union[NoticeKind, str]] = ...) -> None: ...
