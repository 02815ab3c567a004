import datetime

from chatmesh.type.v1 import limits_pb2 as _limits_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetExperimentResultsRequest(_message.Message):
    __slots__ = ("experiment", "since")
    EXPERIMENT_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    experiment: str
    since: _timestamp_pb2.Timestamp
    def __init__(self, experiment: _Optional[str] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class GetExperimentResultsResponse(_message.Message):
    __slots__ = ("arms",)
    ARMS_FIELD_NUMBER: _ClassVar[int]
    arms: _containers.RepeatedCompositeFieldContainer[ArmResult]
    def __init__(self, arms: _Optional[_Iterable[_Union[ArmResult, _Mapping]]] = ...) -> None: ...

class ArmResult(_message.Message):
    __slots__ = ("arm", "users", "generations", "failed", "rated", "rated_up", "first_token_p50_ms", "first_token_p99_ms", "duration_p50_ms", "duration_p99_ms", "completion_tokens", "cost_nano_usd")
    ARM_FIELD_NUMBER: _ClassVar[int]
    USERS_FIELD_NUMBER: _ClassVar[int]
    GENERATIONS_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    RATED_FIELD_NUMBER: _ClassVar[int]
    RATED_UP_FIELD_NUMBER: _ClassVar[int]
    FIRST_TOKEN_P50_MS_FIELD_NUMBER: _ClassVar[int]
    FIRST_TOKEN_P99_MS_FIELD_NUMBER: _ClassVar[int]
    DURATION_P50_MS_FIELD_NUMBER: _ClassVar[int]
    DURATION_P99_MS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COST_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    arm: str
    users: int
    generations: int
    failed: int
    rated: int
    rated_up: int
    first_token_p50_ms: float
    first_token_p99_ms: float
    duration_p50_ms: float
    duration_p99_ms: float
    completion_tokens: float
    cost_nano_usd: float
    def __init__(self, arm: _Optional[str] = ..., users: _Optional[int] = ..., generations: _Optional[int] = ..., failed: _Optional[int] = ..., rated: _Optional[int] = ..., rated_up: _Optional[int] = ..., first_token_p50_ms: _Optional[float] = ..., first_token_p99_ms: _Optional[float] = ..., duration_p50_ms: _Optional[float] = ..., duration_p99_ms: _Optional[float] = ..., completion_tokens: _Optional[float] = ..., cost_nano_usd: _Optional[float] = ...) -> None: ...
