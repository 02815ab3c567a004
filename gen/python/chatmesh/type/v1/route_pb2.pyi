from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RouteCandidate(_message.Message):
    __slots__ = ("model", "replica_id", "score", "in_flight")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REPLICA_ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    model: str
    replica_id: str
    score: float
    in_flight: int
    def __init__(self, model: _Optional[str] = ..., replica_id: _Optional[str] = ..., score: _Optional[float] = ..., in_flight: _Optional[int] = ...) -> None: ...

class RouteReceipt(_message.Message):
    __slots__ = ("requested_model", "model", "engine", "replica_id", "rule", "candidates")
    REQUESTED_MODEL_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    REPLICA_ID_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    requested_model: str
    model: str
    engine: str
    replica_id: str
    rule: str
    candidates: _containers.RepeatedCompositeFieldContainer[RouteCandidate]
    def __init__(self, requested_model: _Optional[str] = ..., model: _Optional[str] = ..., engine: _Optional[str] = ..., replica_id: _Optional[str] = ..., rule: _Optional[str] = ..., candidates: _Optional[_Iterable[_Union[RouteCandidate, _Mapping]]] = ...) -> None: ...
