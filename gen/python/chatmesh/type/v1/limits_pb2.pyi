from google.protobuf import descriptor_pb2 as _descriptor_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StringFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STRING_FORMAT_UNSPECIFIED: _ClassVar[StringFormat]
    STRING_FORMAT_UUID: _ClassVar[StringFormat]
    STRING_FORMAT_NAME: _ClassVar[StringFormat]
STRING_FORMAT_UNSPECIFIED: StringFormat
STRING_FORMAT_UUID: StringFormat
STRING_FORMAT_NAME: StringFormat
LIMITS_FIELD_NUMBER: _ClassVar[int]
limits: _descriptor.FieldDescriptor

class FieldLimits(_message.Message):
    __slots__ = ("required", "min_length", "max_length", "minimum", "maximum", "max_items", "format", "not_blank")
    REQUIRED_FIELD_NUMBER: _ClassVar[int]
    MIN_LENGTH_FIELD_NUMBER: _ClassVar[int]
    MAX_LENGTH_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_FIELD_NUMBER: _ClassVar[int]
    MAX_ITEMS_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    NOT_BLANK_FIELD_NUMBER: _ClassVar[int]
    required: bool
    min_length: int
    max_length: int
    minimum: float
    maximum: float
    max_items: int
    format: StringFormat
    not_blank: bool
    def __init__(self, required: _Optional[bool] = ..., min_length: _Optional[int] = ..., max_length: _Optional[int] = ..., minimum: _Optional[float] = ..., maximum: _Optional[float] = ..., max_items: _Optional[int] = ..., format: _Optional[_Union[StringFormat, str]] = ..., not_blank: _Optional[bool] = ...) -> None: ...
