from chatmesh.inference.v1 import status_pb2 as _status_pb2
from chatmesh.type.v1 import limits_pb2 as _limits_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BreakerState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BREAKER_STATE_UNSPECIFIED: _ClassVar[BreakerState]
    BREAKER_STATE_CLOSED: _ClassVar[BreakerState]
    BREAKER_STATE_OPEN: _ClassVar[BreakerState]
    BREAKER_STATE_HALF_OPEN: _ClassVar[BreakerState]
BREAKER_STATE_UNSPECIFIED: BreakerState
BREAKER_STATE_CLOSED: BreakerState
BREAKER_STATE_OPEN: BreakerState
BREAKER_STATE_HALF_OPEN: BreakerState

class FleetModel(_message.Message):
    __slots__ = ("loaded", "leased", "score", "breaker")
    LOADED_FIELD_NUMBER: _ClassVar[int]
    LEASED_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    BREAKER_FIELD_NUMBER: _ClassVar[int]
    loaded: _status_pb2.LoadedModel
    leased: int
    score: float
    breaker: BreakerState
    def __init__(self, loaded: _Optional[_Union[_status_pb2.LoadedModel, _Mapping]] = ..., leased: _Optional[int] = ..., score: _Optional[float] = ..., breaker: _Optional[_Union[BreakerState, str]] = ...) -> None: ...

class FleetReplica(_message.Message):
    __slots__ = ("replica_id", "address", "pool", "zone", "region", "draining", "silent_ms", "models")
    REPLICA_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    SILENT_MS_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    replica_id: str
    address: str
    pool: str
    zone: str
    region: str
    draining: bool
    silent_ms: float
    models: _containers.RepeatedCompositeFieldContainer[FleetModel]
    def __init__(self, replica_id: _Optional[str] = ..., address: _Optional[str] = ..., pool: _Optional[str] = ..., zone: _Optional[str] = ..., region: _Optional[str] = ..., draining: _Optional[bool] = ..., silent_ms: _Optional[float] = ..., models: _Optional[_Iterable[_Union[FleetModel, _Mapping]]] = ...) -> None: ...

class WatchFleetRequest(_message.Message):
    __slots__ = ("interval_ms",)
    INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    interval_ms: int
    def __init__(self, interval_ms: _Optional[int] = ...) -> None: ...

class WatchFleetResponse(_message.Message):
    __slots__ = ("replicas",)
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    replicas: _containers.RepeatedCompositeFieldContainer[FleetReplica]
    def __init__(self, replicas: _Optional[_Iterable[_Union[FleetReplica, _Mapping]]] = ...) -> None: ...
