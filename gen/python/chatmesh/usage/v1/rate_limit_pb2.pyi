import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RateLimitCode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RATE_LIMIT_CODE_UNSPECIFIED: _ClassVar[RateLimitCode]
    RATE_LIMIT_CODE_OK: _ClassVar[RateLimitCode]
    RATE_LIMIT_CODE_OVER_LIMIT: _ClassVar[RateLimitCode]

class RateLimitUnit(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RATE_LIMIT_UNIT_UNSPECIFIED: _ClassVar[RateLimitUnit]
    RATE_LIMIT_UNIT_SECOND: _ClassVar[RateLimitUnit]
    RATE_LIMIT_UNIT_MINUTE: _ClassVar[RateLimitUnit]
    RATE_LIMIT_UNIT_HOUR: _ClassVar[RateLimitUnit]
    RATE_LIMIT_UNIT_DAY: _ClassVar[RateLimitUnit]
RATE_LIMIT_CODE_UNSPECIFIED: RateLimitCode
RATE_LIMIT_CODE_OK: RateLimitCode
RATE_LIMIT_CODE_OVER_LIMIT: RateLimitCode
RATE_LIMIT_UNIT_UNSPECIFIED: RateLimitUnit
RATE_LIMIT_UNIT_SECOND: RateLimitUnit
RATE_LIMIT_UNIT_MINUTE: RateLimitUnit
RATE_LIMIT_UNIT_HOUR: RateLimitUnit
RATE_LIMIT_UNIT_DAY: RateLimitUnit

class RateLimitRequest(_message.Message):
    __slots__ = ("domain", "descriptors", "hits_addend")
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTORS_FIELD_NUMBER: _ClassVar[int]
    HITS_ADDEND_FIELD_NUMBER: _ClassVar[int]
    domain: str
    descriptors: _containers.RepeatedCompositeFieldContainer[RateLimitDescriptor]
    hits_addend: int
    def __init__(self, domain: _Optional[str] = ..., descriptors: _Optional[_Iterable[_Union[RateLimitDescriptor, _Mapping]]] = ..., hits_addend: _Optional[int] = ...) -> None: ...

class RateLimitDescriptor(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[RateLimitEntry]
    def __init__(self, entries: _Optional[_Iterable[_Union[RateLimitEntry, _Mapping]]] = ...) -> None: ...

class RateLimitEntry(_message.Message):
    __slots__ = ("key", "value")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: str
    def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class RateLimitResponse(_message.Message):
    __slots__ = ("overall_code", "statuses", "response_headers_to_add", "request_headers_to_add", "raw_body")
    OVERALL_CODE_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_HEADERS_TO_ADD_FIELD_NUMBER: _ClassVar[int]
    REQUEST_HEADERS_TO_ADD_FIELD_NUMBER: _ClassVar[int]
    RAW_BODY_FIELD_NUMBER: _ClassVar[int]
    overall_code: RateLimitCode
    statuses: _containers.RepeatedCompositeFieldContainer[RateLimitDescriptorStatus]
    response_headers_to_add: _containers.RepeatedCompositeFieldContainer[RateLimitHeader]
    request_headers_to_add: _containers.RepeatedCompositeFieldContainer[RateLimitHeader]
    raw_body: bytes
    def __init__(self, overall_code: _Optional[_Union[RateLimitCode, str]] = ..., statuses: _Optional[_Iterable[_Union[RateLimitDescriptorStatus, _Mapping]]] = ..., response_headers_to_add: _Optional[_Iterable[_Union[RateLimitHeader, _Mapping]]] = ..., request_headers_to_add: _Optional[_Iterable[_Union[RateLimitHeader, _Mapping]]] = ..., raw_body: _Optional[bytes] = ...) -> None: ...

class RateLimitQuota(_message.Message):
    __slots__ = ("requests_per_unit", "unit", "name")
    REQUESTS_PER_UNIT_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    requests_per_unit: int
    unit: RateLimitUnit
    name: str
    def __init__(self, requests_per_unit: _Optional[int] = ..., unit: _Optional[_Union[RateLimitUnit, str]] = ..., name: _Optional[str] = ...) -> None: ...

class RateLimitDescriptorStatus(_message.Message):
    __slots__ = ("code", "current_limit", "limit_remaining", "duration_until_reset")
    CODE_FIELD_NUMBER: _ClassVar[int]
    CURRENT_LIMIT_FIELD_NUMBER: _ClassVar[int]
    LIMIT_REMAINING_FIELD_NUMBER: _ClassVar[int]
    DURATION_UNTIL_RESET_FIELD_NUMBER: _ClassVar[int]
    code: RateLimitCode
    current_limit: RateLimitQuota
    limit_remaining: int
    duration_until_reset: _duration_pb2.Duration
    def __init__(self, code: _Optional[_Union[RateLimitCode, str]] = ..., current_limit: _Optional[_Union[RateLimitQuota, _Mapping]] = ..., limit_remaining: _Optional[int] = ..., duration_until_reset: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class RateLimitHeader(_message.Message):
    __slots__ = ("key", "value")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: str
    def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
