import datetime

from chatmesh.router.v1 import model_pb2 as _model_pb2
from chatmesh.type.v1 import limits_pb2 as _limits_pb2
from chatmesh.type.v1 import route_pb2 as _route_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RouteRequest(_message.Message):
    __slots__ = ("generation_id", "model", "conversation_id", "excluded_replica_ids")
    GENERATION_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    EXCLUDED_REPLICA_IDS_FIELD_NUMBER: _ClassVar[int]
    generation_id: str
    model: str
    conversation_id: str
    excluded_replica_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, generation_id: _Optional[str] = ..., model: _Optional[str] = ..., conversation_id: _Optional[str] = ..., excluded_replica_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class RouteResponse(_message.Message):
    __slots__ = ("lease", "receipt", "model")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    lease: RouteLease
    receipt: _route_pb2.RouteReceipt
    model: _model_pb2.Model
    def __init__(self, lease: _Optional[_Union[RouteLease, _Mapping]] = ..., receipt: _Optional[_Union[_route_pb2.RouteReceipt, _Mapping]] = ..., model: _Optional[_Union[_model_pb2.Model, _Mapping]] = ...) -> None: ...

class RouteLease(_message.Message):
    __slots__ = ("lease_id", "replica_id", "address", "expire_time")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    REPLICA_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    replica_id: str
    address: str
    expire_time: _timestamp_pb2.Timestamp
    def __init__(self, lease_id: _Optional[str] = ..., replica_id: _Optional[str] = ..., address: _Optional[str] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models", "aliases")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[_model_pb2.Model]
    aliases: _containers.RepeatedCompositeFieldContainer[_model_pb2.ModelAlias]
    def __init__(self, models: _Optional[_Iterable[_Union[_model_pb2.Model, _Mapping]]] = ..., aliases: _Optional[_Iterable[_Union[_model_pb2.ModelAlias, _Mapping]]] = ...) -> None: ...
