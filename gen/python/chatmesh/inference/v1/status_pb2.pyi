from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Capability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CAPABILITY_UNSPECIFIED: _ClassVar[Capability]
    CAPABILITY_CHAT: _ClassVar[Capability]
    CAPABILITY_TOOLS: _ClassVar[Capability]
    CAPABILITY_VISION: _ClassVar[Capability]
    CAPABILITY_JSON: _ClassVar[Capability]
    CAPABILITY_LOGPROBS: _ClassVar[Capability]
    CAPABILITY_LOGIT_BIAS: _ClassVar[Capability]
    CAPABILITY_PENALTIES: _ClassVar[Capability]
    CAPABILITY_EMBEDDINGS: _ClassVar[Capability]
CAPABILITY_UNSPECIFIED: Capability
CAPABILITY_CHAT: Capability
CAPABILITY_TOOLS: Capability
CAPABILITY_VISION: Capability
CAPABILITY_JSON: Capability
CAPABILITY_LOGPROBS: Capability
CAPABILITY_LOGIT_BIAS: Capability
CAPABILITY_PENALTIES: Capability
CAPABILITY_EMBEDDINGS: Capability

class WaitingClass(_message.Message):
    __slots__ = ("priority", "queued", "wait_ms")
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    priority: int
    queued: int
    wait_ms: float
    def __init__(self, priority: _Optional[int] = ..., queued: _Optional[int] = ..., wait_ms: _Optional[float] = ...) -> None: ...

class LoadedModel(_message.Message):
    __slots__ = ("name", "engine", "context_length", "running", "queued", "slots", "tokens_per_second", "time_to_first_token_ms", "capabilities", "kv_cache_usage", "kv_cache_hit_rate", "queue_wait_ms", "waiting", "completed", "failed", "kv_blocks_stored", "kv_blocks_removed")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    TIME_TO_FIRST_TOKEN_MS_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    KV_CACHE_USAGE_FIELD_NUMBER: _ClassVar[int]
    KV_CACHE_HIT_RATE_FIELD_NUMBER: _ClassVar[int]
    QUEUE_WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    KV_BLOCKS_STORED_FIELD_NUMBER: _ClassVar[int]
    KV_BLOCKS_REMOVED_FIELD_NUMBER: _ClassVar[int]
    name: str
    engine: str
    context_length: int
    running: int
    queued: int
    slots: int
    tokens_per_second: float
    time_to_first_token_ms: float
    capabilities: _containers.RepeatedScalarFieldContainer[Capability]
    kv_cache_usage: float
    kv_cache_hit_rate: float
    queue_wait_ms: float
    waiting: _containers.RepeatedCompositeFieldContainer[WaitingClass]
    completed: int
    failed: int
    kv_blocks_stored: int
    kv_blocks_removed: int
    def __init__(self, name: _Optional[str] = ..., engine: _Optional[str] = ..., context_length: _Optional[int] = ..., running: _Optional[int] = ..., queued: _Optional[int] = ..., slots: _Optional[int] = ..., tokens_per_second: _Optional[float] = ..., time_to_first_token_ms: _Optional[float] = ..., capabilities: _Optional[_Iterable[_Union[Capability, str]]] = ..., kv_cache_usage: _Optional[float] = ..., kv_cache_hit_rate: _Optional[float] = ..., queue_wait_ms: _Optional[float] = ..., waiting: _Optional[_Iterable[_Union[WaitingClass, _Mapping]]] = ..., completed: _Optional[int] = ..., failed: _Optional[int] = ..., kv_blocks_stored: _Optional[int] = ..., kv_blocks_removed: _Optional[int] = ...) -> None: ...

class ReplicaStatus(_message.Message):
    __slots__ = ("replica_id", "draining", "models", "pool", "zone", "region")
    REPLICA_ID_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    replica_id: str
    draining: bool
    models: _containers.RepeatedCompositeFieldContainer[LoadedModel]
    pool: str
    zone: str
    region: str
    def __init__(self, replica_id: _Optional[str] = ..., draining: _Optional[bool] = ..., models: _Optional[_Iterable[_Union[LoadedModel, _Mapping]]] = ..., pool: _Optional[str] = ..., zone: _Optional[str] = ..., region: _Optional[str] = ...) -> None: ...
