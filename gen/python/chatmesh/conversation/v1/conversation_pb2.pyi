import datetime

from chatmesh.type.v1 import chat_pb2 as _chat_pb2
from chatmesh.type.v1 import route_pb2 as _route_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MessageStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MESSAGE_STATUS_UNSPECIFIED: _ClassVar[MessageStatus]
    MESSAGE_STATUS_IN_PROGRESS: _ClassVar[MessageStatus]
    MESSAGE_STATUS_COMPLETED: _ClassVar[MessageStatus]
    MESSAGE_STATUS_STOPPED: _ClassVar[MessageStatus]
    MESSAGE_STATUS_FAILED: _ClassVar[MessageStatus]
    MESSAGE_STATUS_BLOCKED: _ClassVar[MessageStatus]
    MESSAGE_STATUS_HELD: _ClassVar[MessageStatus]

class Rating(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RATING_UNSPECIFIED: _ClassVar[Rating]
    RATING_UP: _ClassVar[Rating]
    RATING_DOWN: _ClassVar[Rating]

class FeedbackReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FEEDBACK_REASON_UNSPECIFIED: _ClassVar[FeedbackReason]
    FEEDBACK_REASON_CORRECT: _ClassVar[FeedbackReason]
    FEEDBACK_REASON_CLEAR: _ClassVar[FeedbackReason]
    FEEDBACK_REASON_COMPLETE: _ClassVar[FeedbackReason]
    FEEDBACK_REASON_INCORRECT: _ClassVar[FeedbackReason]
    FEEDBACK_REASON_NOT_FOLLOWED: _ClassVar[FeedbackReason]
    FEEDBACK_REASON_UNSAFE: _ClassVar[FeedbackReason]
    FEEDBACK_REASON_REFUSED: _ClassVar[FeedbackReason]
    FEEDBACK_REASON_STYLE: _ClassVar[FeedbackReason]
    FEEDBACK_REASON_OTHER: _ClassVar[FeedbackReason]
MESSAGE_STATUS_UNSPECIFIED: MessageStatus
MESSAGE_STATUS_IN_PROGRESS: MessageStatus
MESSAGE_STATUS_COMPLETED: MessageStatus
MESSAGE_STATUS_STOPPED: MessageStatus
MESSAGE_STATUS_FAILED: MessageStatus
MESSAGE_STATUS_BLOCKED: MessageStatus
MESSAGE_STATUS_HELD: MessageStatus
RATING_UNSPECIFIED: Rating
RATING_UP: Rating
RATING_DOWN: Rating
FEEDBACK_REASON_UNSPECIFIED: FeedbackReason
FEEDBACK_REASON_CORRECT: FeedbackReason
FEEDBACK_REASON_CLEAR: FeedbackReason
FEEDBACK_REASON_COMPLETE: FeedbackReason
FEEDBACK_REASON_INCORRECT: FeedbackReason
FEEDBACK_REASON_NOT_FOLLOWED: FeedbackReason
FEEDBACK_REASON_UNSAFE: FeedbackReason
FEEDBACK_REASON_REFUSED: FeedbackReason
FEEDBACK_REASON_STYLE: FeedbackReason
FEEDBACK_REASON_OTHER: FeedbackReason

class Conversation(_message.Message):
    __slots__ = ("id", "title", "model", "system_prompt", "message_count", "create_time", "update_time", "pinned", "archived", "delete_time", "purge_time", "current_message_id", "source_conversation_id")
    ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_PROMPT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    ARCHIVED_FIELD_NUMBER: _ClassVar[int]
    DELETE_TIME_FIELD_NUMBER: _ClassVar[int]
    PURGE_TIME_FIELD_NUMBER: _ClassVar[int]
    CURRENT_MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    title: str
    model: str
    system_prompt: str
    message_count: int
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    pinned: bool
    archived: bool
    delete_time: _timestamp_pb2.Timestamp
    purge_time: _timestamp_pb2.Timestamp
    current_message_id: str
    source_conversation_id: str
    def __init__(self, id: _Optional[str] = ..., title: _Optional[str] = ..., model: _Optional[str] = ..., system_prompt: _Optional[str] = ..., message_count: _Optional[int] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., pinned: _Optional[bool] = ..., archived: _Optional[bool] = ..., delete_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., purge_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., current_message_id: _Optional[str] = ..., source_conversation_id: _Optional[str] = ...) -> None: ...

class Message(_message.Message):
    __slots__ = ("id", "conversation_id", "parent_id", "role", "content", "status", "sequence", "create_time", "generation_id", "model", "finish_reason", "usage", "route", "error", "sibling_ids", "depth", "feedback")
    ID_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    PARENT_ID_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    GENERATION_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    SIBLING_IDS_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    FEEDBACK_FIELD_NUMBER: _ClassVar[int]
    id: str
    conversation_id: str
    parent_id: str
    role: _chat_pb2.Role
    content: str
    status: MessageStatus
    sequence: int
    create_time: _timestamp_pb2.Timestamp
    generation_id: str
    model: str
    finish_reason: _chat_pb2.FinishReason
    usage: _chat_pb2.TokenUsage
    route: _route_pb2.RouteReceipt
    error: ErrorSummary
    sibling_ids: _containers.RepeatedScalarFieldContainer[str]
    depth: int
    feedback: Feedback
    def __init__(self, id: _Optional[str] = ..., conversation_id: _Optional[str] = ..., parent_id: _Optional[str] = ..., role: _Optional[_Union[_chat_pb2.Role, str]] = ..., content: _Optional[str] = ..., status: _Optional[_Union[MessageStatus, str]] = ..., sequence: _Optional[int] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., generation_id: _Optional[str] = ..., model: _Optional[str] = ..., finish_reason: _Optional[_Union[_chat_pb2.FinishReason, str]] = ..., usage: _Optional[_Union[_chat_pb2.TokenUsage, _Mapping]] = ..., route: _Optional[_Union[_route_pb2.RouteReceipt, _Mapping]] = ..., error: _Optional[_Union[ErrorSummary, _Mapping]] = ..., sibling_ids: _Optional[_Iterable[str]] = ..., depth: _Optional[int] = ..., feedback: _Optional[_Union[Feedback, _Mapping]] = ...) -> None: ...

class Feedback(_message.Message):
    __slots__ = ("rating", "reason", "comment", "update_time")
    RATING_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    rating: Rating
    reason: FeedbackReason
    comment: str
    update_time: _timestamp_pb2.Timestamp
    def __init__(self, rating: _Optional[_Union[Rating, str]] = ..., reason: _Optional[_Union[FeedbackReason, str]] = ..., comment: _Optional[str] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ErrorSummary(_message.Message):
    __slots__ = ("code", "reason", "message", "metadata", "retry_after")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_FIELD_NUMBER: _ClassVar[int]
    code: str
    reason: str
    message: str
    metadata: _containers.ScalarMap[str, str]
    retry_after: _duration_pb2.Duration
    def __init__(self, code: _Optional[str] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ..., retry_after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...
