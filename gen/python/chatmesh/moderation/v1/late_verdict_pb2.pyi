from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LateAction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LATE_ACTION_UNSPECIFIED: _ClassVar[LateAction]
    LATE_ACTION_RETRACT: _ClassVar[LateAction]
    LATE_ACTION_RESTORE: _ClassVar[LateAction]
LATE_ACTION_UNSPECIFIED: LateAction
LATE_ACTION_RETRACT: LateAction
LATE_ACTION_RESTORE: LateAction

class LateVerdict(_message.Message):
    __slots__ = ("generation_id", "user_id", "action", "input", "category", "replacement", "text", "event_id", "policy_version")
    GENERATION_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    REPLACEMENT_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    generation_id: str
    user_id: str
    action: LateAction
    input: bool
    category: str
    replacement: str
    text: str
    event_id: str
    policy_version: str
    def __init__(self, generation_id: _Optional[str] = ..., user_id: _Optional[str] = ..., action: _Optional[_Union[LateAction, str]] = ..., input: _Optional[bool] = ..., category: _Optional[str] = ..., replacement: _Optional[str] = ..., text: _Optional[str] = ..., event_id: _Optional[str] = ..., policy_version: _Optional[str] = ...) -> None: ...
