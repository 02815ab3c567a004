import datetime

from chatmesh.inference.v1 import generation_pb2 as _generation_pb2
from chatmesh.inference.v1 import status_pb2 as _status_pb2
from chatmesh.router.v1 import fleet_pb2 as _fleet_pb2
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
    __slots__ = ("generation_id", "model", "conversation_id", "excluded_replica_ids", "failed_replica_id", "affinity_keys", "prompt", "prompt_characters", "capabilities", "zone", "region", "escalated_from", "background", "last_replica_id", "continues")
    GENERATION_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    EXCLUDED_REPLICA_IDS_FIELD_NUMBER: _ClassVar[int]
    FAILED_REPLICA_ID_FIELD_NUMBER: _ClassVar[int]
    AFFINITY_KEYS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    PROMPT_CHARACTERS_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    ESCALATED_FROM_FIELD_NUMBER: _ClassVar[int]
    BACKGROUND_FIELD_NUMBER: _ClassVar[int]
    LAST_REPLICA_ID_FIELD_NUMBER: _ClassVar[int]
    CONTINUES_FIELD_NUMBER: _ClassVar[int]
    generation_id: str
    model: str
    conversation_id: str
    excluded_replica_ids: _containers.RepeatedScalarFieldContainer[str]
    failed_replica_id: str
    affinity_keys: _containers.RepeatedScalarFieldContainer[str]
    prompt: str
    prompt_characters: int
    capabilities: _containers.RepeatedScalarFieldContainer[_status_pb2.Capability]
    zone: str
    region: str
    escalated_from: str
    background: bool
    last_replica_id: str
    continues: bool
    def __init__(self, generation_id: _Optional[str] = ..., model: _Optional[str] = ..., conversation_id: _Optional[str] = ..., excluded_replica_ids: _Optional[_Iterable[str]] = ..., failed_replica_id: _Optional[str] = ..., affinity_keys: _Optional[_Iterable[str]] = ..., prompt: _Optional[str] = ..., prompt_characters: _Optional[int] = ..., capabilities: _Optional[_Iterable[_Union[_status_pb2.Capability, str]]] = ..., zone: _Optional[str] = ..., region: _Optional[str] = ..., escalated_from: _Optional[str] = ..., background: _Optional[bool] = ..., last_replica_id: _Optional[str] = ..., continues: _Optional[bool] = ...) -> None: ...

class RouteResponse(_message.Message):
    __slots__ = ("lease", "receipt", "model", "cascade", "shadows", "priority")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CASCADE_FIELD_NUMBER: _ClassVar[int]
    SHADOWS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    lease: RouteLease
    receipt: _route_pb2.RouteReceipt
    model: _model_pb2.Model
    cascade: Cascade
    shadows: _containers.RepeatedCompositeFieldContainer[ShadowRoute]
    priority: _generation_pb2.Priority
    def __init__(self, lease: _Optional[_Union[RouteLease, _Mapping]] = ..., receipt: _Optional[_Union[_route_pb2.RouteReceipt, _Mapping]] = ..., model: _Optional[_Union[_model_pb2.Model, _Mapping]] = ..., cascade: _Optional[_Union[Cascade, _Mapping]] = ..., shadows: _Optional[_Iterable[_Union[ShadowRoute, _Mapping]]] = ..., priority: _Optional[_Union[_generation_pb2.Priority, str]] = ...) -> None: ...

class Cascade(_message.Message):
    __slots__ = ("model", "probe_tokens", "min_mean_logprob", "weak_openings")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROBE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MIN_MEAN_LOGPROB_FIELD_NUMBER: _ClassVar[int]
    WEAK_OPENINGS_FIELD_NUMBER: _ClassVar[int]
    model: str
    probe_tokens: int
    min_mean_logprob: float
    weak_openings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, model: _Optional[str] = ..., probe_tokens: _Optional[int] = ..., min_mean_logprob: _Optional[float] = ..., weak_openings: _Optional[_Iterable[str]] = ...) -> None: ...

class ShadowRoute(_message.Message):
    __slots__ = ("name", "lease", "model")
    NAME_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    name: str
    lease: RouteLease
    model: _model_pb2.Model
    def __init__(self, name: _Optional[str] = ..., lease: _Optional[_Union[RouteLease, _Mapping]] = ..., model: _Optional[_Union[_model_pb2.Model, _Mapping]] = ...) -> None: ...

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
    __slots__ = ("models", "aliases", "refused_file")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FILE_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[_model_pb2.Model]
    aliases: _containers.RepeatedCompositeFieldContainer[_model_pb2.ModelAlias]
    refused_file: str
    def __init__(self, models: _Optional[_Iterable[_Union[_model_pb2.Model, _Mapping]]] = ..., aliases: _Optional[_Iterable[_Union[_model_pb2.ModelAlias, _Mapping]]] = ..., refused_file: _Optional[str] = ...) -> None: ...
