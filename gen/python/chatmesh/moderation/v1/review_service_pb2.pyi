import datetime

from chatmesh.moderation.v1 import verdict_pb2 as _verdict_pb2
from chatmesh.type.v1 import limits_pb2 as _limits_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EventState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EVENT_STATE_UNSPECIFIED: _ClassVar[EventState]
    EVENT_STATE_CLOSED: _ClassVar[EventState]
    EVENT_STATE_PENDING: _ClassVar[EventState]
    EVENT_STATE_CLAIMED: _ClassVar[EventState]
    EVENT_STATE_DECIDED: _ClassVar[EventState]

class Decision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DECISION_UNSPECIFIED: _ClassVar[Decision]
    DECISION_UPHOLD: _ClassVar[Decision]
    DECISION_OVERTURN: _ClassVar[Decision]
EVENT_STATE_UNSPECIFIED: EventState
EVENT_STATE_CLOSED: EventState
EVENT_STATE_PENDING: EventState
EVENT_STATE_CLAIMED: EventState
EVENT_STATE_DECIDED: EventState
DECISION_UNSPECIFIED: Decision
DECISION_UPHOLD: Decision
DECISION_OVERTURN: Decision

class Event(_message.Message):
    __slots__ = ("event_id", "create_time", "generation_id", "conversation_id", "user_id", "tenant_id", "tier", "input", "action", "category", "findings", "text_sha256", "text_length", "text", "text_kept", "policy_version", "state", "claimed_by", "claim_expire_time", "decision", "decided_by", "decide_time", "comment", "appeal", "appeal_time", "late")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    GENERATION_ID_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    TEXT_SHA256_FIELD_NUMBER: _ClassVar[int]
    TEXT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TEXT_KEPT_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CLAIMED_BY_FIELD_NUMBER: _ClassVar[int]
    CLAIM_EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    DECIDED_BY_FIELD_NUMBER: _ClassVar[int]
    DECIDE_TIME_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    APPEAL_FIELD_NUMBER: _ClassVar[int]
    APPEAL_TIME_FIELD_NUMBER: _ClassVar[int]
    LATE_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    create_time: _timestamp_pb2.Timestamp
    generation_id: str
    conversation_id: str
    user_id: str
    tenant_id: str
    tier: str
    input: bool
    action: _verdict_pb2.Action
    category: str
    findings: _containers.RepeatedCompositeFieldContainer[_verdict_pb2.Finding]
    text_sha256: str
    text_length: int
    text: str
    text_kept: bool
    policy_version: str
    state: EventState
    claimed_by: str
    claim_expire_time: _timestamp_pb2.Timestamp
    decision: Decision
    decided_by: str
    decide_time: _timestamp_pb2.Timestamp
    comment: str
    appeal: str
    appeal_time: _timestamp_pb2.Timestamp
    late: bool
    def __init__(self, event_id: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., generation_id: _Optional[str] = ..., conversation_id: _Optional[str] = ..., user_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., tier: _Optional[str] = ..., input: _Optional[bool] = ..., action: _Optional[_Union[_verdict_pb2.Action, str]] = ..., category: _Optional[str] = ..., findings: _Optional[_Iterable[_Union[_verdict_pb2.Finding, _Mapping]]] = ..., text_sha256: _Optional[str] = ..., text_length: _Optional[int] = ..., text: _Optional[str] = ..., text_kept: _Optional[bool] = ..., policy_version: _Optional[str] = ..., state: _Optional[_Union[EventState, str]] = ..., claimed_by: _Optional[str] = ..., claim_expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., decision: _Optional[_Union[Decision, str]] = ..., decided_by: _Optional[str] = ..., decide_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., comment: _Optional[str] = ..., appeal: _Optional[str] = ..., appeal_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., late: _Optional[bool] = ...) -> None: ...

class ListEventsRequest(_message.Message):
    __slots__ = ("reviewer", "state", "category", "user_id", "appealed", "page_size", "page_token", "generation_id")
    REVIEWER_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    APPEALED_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    GENERATION_ID_FIELD_NUMBER: _ClassVar[int]
    reviewer: str
    state: EventState
    category: str
    user_id: str
    appealed: bool
    page_size: int
    page_token: str
    generation_id: str
    def __init__(self, reviewer: _Optional[str] = ..., state: _Optional[_Union[EventState, str]] = ..., category: _Optional[str] = ..., user_id: _Optional[str] = ..., appealed: _Optional[bool] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., generation_id: _Optional[str] = ...) -> None: ...

class ListEventsResponse(_message.Message):
    __slots__ = ("events", "next_page_token")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[Event]
    next_page_token: str
    def __init__(self, events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetEventRequest(_message.Message):
    __slots__ = ("reviewer", "event_id")
    REVIEWER_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    reviewer: str
    event_id: str
    def __init__(self, reviewer: _Optional[str] = ..., event_id: _Optional[str] = ...) -> None: ...

class ClaimEventRequest(_message.Message):
    __slots__ = ("reviewer", "event_id", "lease_seconds")
    REVIEWER_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    LEASE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    reviewer: str
    event_id: str
    lease_seconds: int
    def __init__(self, reviewer: _Optional[str] = ..., event_id: _Optional[str] = ..., lease_seconds: _Optional[int] = ...) -> None: ...

class ReleaseEventRequest(_message.Message):
    __slots__ = ("reviewer", "event_id")
    REVIEWER_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    reviewer: str
    event_id: str
    def __init__(self, reviewer: _Optional[str] = ..., event_id: _Optional[str] = ...) -> None: ...

class DecideEventRequest(_message.Message):
    __slots__ = ("reviewer", "event_id", "decision", "comment", "category")
    REVIEWER_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    reviewer: str
    event_id: str
    decision: Decision
    comment: str
    category: str
    def __init__(self, reviewer: _Optional[str] = ..., event_id: _Optional[str] = ..., decision: _Optional[_Union[Decision, str]] = ..., comment: _Optional[str] = ..., category: _Optional[str] = ...) -> None: ...

class AppealEventRequest(_message.Message):
    __slots__ = ("event_id", "user_id", "appeal")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    APPEAL_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    user_id: str
    appeal: str
    def __init__(self, event_id: _Optional[str] = ..., user_id: _Optional[str] = ..., appeal: _Optional[str] = ...) -> None: ...

class ListEventAuditRequest(_message.Message):
    __slots__ = ("reviewer", "event_id")
    REVIEWER_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    reviewer: str
    event_id: str
    def __init__(self, reviewer: _Optional[str] = ..., event_id: _Optional[str] = ...) -> None: ...

class ListEventAuditResponse(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[AuditEntry]
    def __init__(self, entries: _Optional[_Iterable[_Union[AuditEntry, _Mapping]]] = ...) -> None: ...

class AuditEntry(_message.Message):
    __slots__ = ("time", "actor", "what")
    TIME_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    WHAT_FIELD_NUMBER: _ClassVar[int]
    time: _timestamp_pb2.Timestamp
    actor: str
    what: str
    def __init__(self, time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., actor: _Optional[str] = ..., what: _Optional[str] = ...) -> None: ...

class ExportDecisionsRequest(_message.Message):
    __slots__ = ("reviewer", "since")
    REVIEWER_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    reviewer: str
    since: _timestamp_pb2.Timestamp
    def __init__(self, reviewer: _Optional[str] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ExportDecisionsResponse(_message.Message):
    __slots__ = ("rows",)
    ROWS_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedCompositeFieldContainer[TrainingRow]
    def __init__(self, rows: _Optional[_Iterable[_Union[TrainingRow, _Mapping]]] = ...) -> None: ...

class TrainingRow(_message.Message):
    __slots__ = ("id", "text", "label", "categories", "kind", "head")
    ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    id: str
    text: str
    label: str
    categories: _containers.RepeatedScalarFieldContainer[str]
    kind: str
    head: str
    def __init__(self, id: _Optional[str] = ..., text: _Optional[str] = ..., label: _Optional[str] = ..., categories: _Optional[_Iterable[str]] = ..., kind: _Optional[str] = ..., head: _Optional[str] = ...) -> None: ...

class ForgetUserRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ForgetUserResponse(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: int
    def __init__(self, events: _Optional[int] = ...) -> None: ...
