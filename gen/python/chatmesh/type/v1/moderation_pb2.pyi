from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ModerationMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODERATION_MODE_UNSPECIFIED: _ClassVar[ModerationMode]
    MODERATION_MODE_CHECKED: _ClassVar[ModerationMode]
    MODERATION_MODE_OPEN: _ClassVar[ModerationMode]
    MODERATION_MODE_CLOSED: _ClassVar[ModerationMode]
MODERATION_MODE_UNSPECIFIED: ModerationMode
MODERATION_MODE_CHECKED: ModerationMode
MODERATION_MODE_OPEN: ModerationMode
MODERATION_MODE_CLOSED: ModerationMode

class ModerationCheck(_message.Message):
    __slots__ = ("mode", "action", "categories", "unchecked", "event_id")
    MODE_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    UNCHECKED_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    mode: ModerationMode
    action: str
    categories: _containers.RepeatedScalarFieldContainer[str]
    unchecked: _containers.RepeatedScalarFieldContainer[str]
    event_id: str
    def __init__(self, mode: _Optional[_Union[ModerationMode, str]] = ..., action: _Optional[str] = ..., categories: _Optional[_Iterable[str]] = ..., unchecked: _Optional[_Iterable[str]] = ..., event_id: _Optional[str] = ...) -> None: ...

class ModerationReceipt(_message.Message):
    __slots__ = ("policy_version", "input", "output")
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    policy_version: str
    input: ModerationCheck
    output: ModerationCheck
    def __init__(self, policy_version: _Optional[str] = ..., input: _Optional[_Union[ModerationCheck, _Mapping]] = ..., output: _Optional[_Union[ModerationCheck, _Mapping]] = ...) -> None: ...
