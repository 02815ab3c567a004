from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Action(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACTION_UNSPECIFIED: _ClassVar[Action]
    ACTION_ALLOW: _ClassVar[Action]
    ACTION_REDACT: _ClassVar[Action]
    ACTION_BLOCK: _ClassVar[Action]
    ACTION_WARN: _ClassVar[Action]
    ACTION_HOLD: _ClassVar[Action]

class Layer(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LAYER_UNSPECIFIED: _ClassVar[Layer]
    LAYER_RULES: _ClassVar[Layer]
    LAYER_ATTACKS: _ClassVar[Layer]
    LAYER_CLASSIFIER: _ClassVar[Layer]
    LAYER_GUARD: _ClassVar[Layer]
ACTION_UNSPECIFIED: Action
ACTION_ALLOW: Action
ACTION_REDACT: Action
ACTION_BLOCK: Action
ACTION_WARN: Action
ACTION_HOLD: Action
LAYER_UNSPECIFIED: Layer
LAYER_RULES: Layer
LAYER_ATTACKS: Layer
LAYER_CLASSIFIER: Layer
LAYER_GUARD: Layer

class Finding(_message.Message):
    __slots__ = ("category", "rule", "start", "end", "action", "layer", "score")
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    category: str
    rule: str
    start: int
    end: int
    action: Action
    layer: Layer
    score: float
    def __init__(self, category: _Optional[str] = ..., rule: _Optional[str] = ..., start: _Optional[int] = ..., end: _Optional[int] = ..., action: _Optional[_Union[Action, str]] = ..., layer: _Optional[_Union[Layer, str]] = ..., score: _Optional[float] = ...) -> None: ...

class LayerResult(_message.Message):
    __slots__ = ("layer", "action", "duration_us", "unchecked")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    DURATION_US_FIELD_NUMBER: _ClassVar[int]
    UNCHECKED_FIELD_NUMBER: _ClassVar[int]
    layer: Layer
    action: Action
    duration_us: int
    unchecked: bool
    def __init__(self, layer: _Optional[_Union[Layer, str]] = ..., action: _Optional[_Union[Action, str]] = ..., duration_us: _Optional[int] = ..., unchecked: _Optional[bool] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("action", "findings", "policy_version", "redacted_text", "layers", "note", "event_id", "redacted_others")
    ACTION_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    REDACTED_TEXT_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    REDACTED_OTHERS_FIELD_NUMBER: _ClassVar[int]
    action: Action
    findings: _containers.RepeatedCompositeFieldContainer[Finding]
    policy_version: str
    redacted_text: str
    layers: _containers.RepeatedCompositeFieldContainer[LayerResult]
    note: str
    event_id: str
    redacted_others: _containers.RepeatedCompositeFieldContainer[RedactedText]
    def __init__(self, action: _Optional[_Union[Action, str]] = ..., findings: _Optional[_Iterable[_Union[Finding, _Mapping]]] = ..., policy_version: _Optional[str] = ..., redacted_text: _Optional[str] = ..., layers: _Optional[_Iterable[_Union[LayerResult, _Mapping]]] = ..., note: _Optional[str] = ..., event_id: _Optional[str] = ..., redacted_others: _Optional[_Iterable[_Union[RedactedText, _Mapping]]] = ...) -> None: ...

class RedactedText(_message.Message):
    __slots__ = ("index", "text")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    index: int
    text: str
    def __init__(self, index: _Optional[int] = ..., text: _Optional[str] = ...) -> None: ...

class Retraction(_message.Message):
    __slots__ = ("start", "end", "replacement", "category", "action", "layer")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    REPLACEMENT_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    start: int
    end: int
    replacement: str
    category: str
    action: Action
    layer: Layer
    def __init__(self, start: _Optional[int] = ..., end: _Optional[int] = ..., replacement: _Optional[str] = ..., category: _Optional[str] = ..., action: _Optional[_Union[Action, str]] = ..., layer: _Optional[_Union[Layer, str]] = ...) -> None: ...
