from chatmesh.type.v1 import moderation_pb2 as _moderation_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RouteCandidate(_message.Message):
    __slots__ = ("model", "replica_id", "score", "in_flight", "pool", "region")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REPLICA_ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    model: str
    replica_id: str
    score: float
    in_flight: int
    pool: str
    region: str
    def __init__(self, model: _Optional[str] = ..., replica_id: _Optional[str] = ..., score: _Optional[float] = ..., in_flight: _Optional[int] = ..., pool: _Optional[str] = ..., region: _Optional[str] = ...) -> None: ...

class ExperimentArm(_message.Message):
    __slots__ = ("experiment", "arm")
    EXPERIMENT_FIELD_NUMBER: _ClassVar[int]
    ARM_FIELD_NUMBER: _ClassVar[int]
    experiment: str
    arm: str
    def __init__(self, experiment: _Optional[str] = ..., arm: _Optional[str] = ...) -> None: ...

class ModelCandidate(_message.Message):
    __slots__ = ("model", "score", "reason")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    model: str
    score: float
    reason: str
    def __init__(self, model: _Optional[str] = ..., score: _Optional[float] = ..., reason: _Optional[str] = ...) -> None: ...

class RouteReceipt(_message.Message):
    __slots__ = ("requested_model", "model", "engine", "replica_id", "rule", "candidates", "models", "classification", "experiments", "pool", "zone", "region", "escalated_from", "queue_ms", "first_token_ms", "retries", "epochs", "cost_nano_usd", "moderation")
    REQUESTED_MODEL_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    REPLICA_ID_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    CLASSIFICATION_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENTS_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    ESCALATED_FROM_FIELD_NUMBER: _ClassVar[int]
    QUEUE_MS_FIELD_NUMBER: _ClassVar[int]
    FIRST_TOKEN_MS_FIELD_NUMBER: _ClassVar[int]
    RETRIES_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    COST_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    MODERATION_FIELD_NUMBER: _ClassVar[int]
    requested_model: str
    model: str
    engine: str
    replica_id: str
    rule: str
    candidates: _containers.RepeatedCompositeFieldContainer[RouteCandidate]
    models: _containers.RepeatedCompositeFieldContainer[ModelCandidate]
    classification: str
    experiments: _containers.RepeatedCompositeFieldContainer[ExperimentArm]
    pool: str
    zone: str
    region: str
    escalated_from: str
    queue_ms: float
    first_token_ms: float
    retries: int
    epochs: int
    cost_nano_usd: int
    moderation: _moderation_pb2.ModerationReceipt
    def __init__(self, requested_model: _Optional[str] = ..., model: _Optional[str] = ..., engine: _Optional[str] = ..., replica_id: _Optional[str] = ..., rule: _Optional[str] = ..., candidates: _Optional[_Iterable[_Union[RouteCandidate, _Mapping]]] = ..., models: _Optional[_Iterable[_Union[ModelCandidate, _Mapping]]] = ..., classification: _Optional[str] = ..., experiments: _Optional[_Iterable[_Union[ExperimentArm, _Mapping]]] = ..., pool: _Optional[str] = ..., zone: _Optional[str] = ..., region: _Optional[str] = ..., escalated_from: _Optional[str] = ..., queue_ms: _Optional[float] = ..., first_token_ms: _Optional[float] = ..., retries: _Optional[int] = ..., epochs: _Optional[int] = ..., cost_nano_usd: _Optional[int] = ..., moderation: _Optional[_Union[_moderation_pb2.ModerationReceipt, _Mapping]] = ...) -> None: ...
