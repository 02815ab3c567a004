from chatmesh.moderation.v1 import verdict_pb2 as _verdict_pb2
from chatmesh.type.v1 import limits_pb2 as _limits_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class InputOrigin(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INPUT_ORIGIN_UNSPECIFIED: _ClassVar[InputOrigin]
    INPUT_ORIGIN_EARLIER_TURN: _ClassVar[InputOrigin]
    INPUT_ORIGIN_UNTRUSTED: _ClassVar[InputOrigin]
INPUT_ORIGIN_UNSPECIFIED: InputOrigin
INPUT_ORIGIN_EARLIER_TURN: InputOrigin
INPUT_ORIGIN_UNTRUSTED: InputOrigin

class CheckInputRequest(_message.Message):
    __slots__ = ("generation_id", "texts", "context", "conversation_id", "last_origin")
    GENERATION_ID_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    LAST_ORIGIN_FIELD_NUMBER: _ClassVar[int]
    generation_id: str
    texts: _containers.RepeatedScalarFieldContainer[str]
    context: _containers.RepeatedCompositeFieldContainer[InputContext]
    conversation_id: str
    last_origin: InputOrigin
    def __init__(self, generation_id: _Optional[str] = ..., texts: _Optional[_Iterable[str]] = ..., context: _Optional[_Iterable[_Union[InputContext, _Mapping]]] = ..., conversation_id: _Optional[str] = ..., last_origin: _Optional[_Union[InputOrigin, str]] = ...) -> None: ...

class InputContext(_message.Message):
    __slots__ = ("origin", "text")
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    origin: InputOrigin
    text: str
    def __init__(self, origin: _Optional[_Union[InputOrigin, str]] = ..., text: _Optional[str] = ...) -> None: ...

class CheckInputResponse(_message.Message):
    __slots__ = ("verdict", "availability")
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    AVAILABILITY_FIELD_NUMBER: _ClassVar[int]
    verdict: _verdict_pb2.Verdict
    availability: Availability
    def __init__(self, verdict: _Optional[_Union[_verdict_pb2.Verdict, _Mapping]] = ..., availability: _Optional[_Union[Availability, _Mapping]] = ...) -> None: ...

class Availability(_message.Message):
    __slots__ = ("patience_ms", "input_closed", "output_closed", "policy_version")
    PATIENCE_MS_FIELD_NUMBER: _ClassVar[int]
    INPUT_CLOSED_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_CLOSED_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    patience_ms: int
    input_closed: _containers.RepeatedScalarFieldContainer[str]
    output_closed: _containers.RepeatedScalarFieldContainer[str]
    policy_version: str
    def __init__(self, patience_ms: _Optional[int] = ..., input_closed: _Optional[_Iterable[str]] = ..., output_closed: _Optional[_Iterable[str]] = ..., policy_version: _Optional[str] = ...) -> None: ...

class CheckStreamRequest(_message.Message):
    __slots__ = ("segments",)
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    segments: _containers.RepeatedCompositeFieldContainer[Segment]
    def __init__(self, segments: _Optional[_Iterable[_Union[Segment, _Mapping]]] = ...) -> None: ...

class Segment(_message.Message):
    __slots__ = ("generation_id", "text", "last", "abandoned", "context")
    GENERATION_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    ABANDONED_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    generation_id: str
    text: str
    last: bool
    abandoned: bool
    context: GenerationContext
    def __init__(self, generation_id: _Optional[str] = ..., text: _Optional[str] = ..., last: _Optional[bool] = ..., abandoned: _Optional[bool] = ..., context: _Optional[_Union[GenerationContext, _Mapping]] = ...) -> None: ...

class GenerationContext(_message.Message):
    __slots__ = ("user_id", "tier", "tenant_id", "conversation_id", "protected_text", "residency")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    PROTECTED_TEXT_FIELD_NUMBER: _ClassVar[int]
    RESIDENCY_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    tier: str
    tenant_id: str
    conversation_id: str
    protected_text: str
    residency: str
    def __init__(self, user_id: _Optional[str] = ..., tier: _Optional[str] = ..., tenant_id: _Optional[str] = ..., conversation_id: _Optional[str] = ..., protected_text: _Optional[str] = ..., residency: _Optional[str] = ...) -> None: ...

class CheckStreamResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[SegmentResult]
    def __init__(self, results: _Optional[_Iterable[_Union[SegmentResult, _Mapping]]] = ...) -> None: ...

class SegmentResult(_message.Message):
    __slots__ = ("generation_id", "watermark", "retractions", "done", "policy_version", "action", "categories", "unchecked", "event_id", "seen")
    GENERATION_ID_FIELD_NUMBER: _ClassVar[int]
    WATERMARK_FIELD_NUMBER: _ClassVar[int]
    RETRACTIONS_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    UNCHECKED_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    generation_id: str
    watermark: int
    retractions: _containers.RepeatedCompositeFieldContainer[_verdict_pb2.Retraction]
    done: bool
    policy_version: str
    action: _verdict_pb2.Action
    categories: _containers.RepeatedScalarFieldContainer[str]
    unchecked: _containers.RepeatedScalarFieldContainer[str]
    event_id: str
    seen: int
    def __init__(self, generation_id: _Optional[str] = ..., watermark: _Optional[int] = ..., retractions: _Optional[_Iterable[_Union[_verdict_pb2.Retraction, _Mapping]]] = ..., done: _Optional[bool] = ..., policy_version: _Optional[str] = ..., action: _Optional[_Union[_verdict_pb2.Action, str]] = ..., categories: _Optional[_Iterable[str]] = ..., unchecked: _Optional[_Iterable[str]] = ..., event_id: _Optional[str] = ..., seen: _Optional[int] = ...) -> None: ...

class ClassifyRequest(_message.Message):
    __slots__ = ("texts",)
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    texts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, texts: _Optional[_Iterable[str]] = ...) -> None: ...

class ClassifyResponse(_message.Message):
    __slots__ = ("classifications", "policy_version", "classifier_version")
    CLASSIFICATIONS_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    CLASSIFIER_VERSION_FIELD_NUMBER: _ClassVar[int]
    classifications: _containers.RepeatedCompositeFieldContainer[Classification]
    policy_version: str
    classifier_version: str
    def __init__(self, classifications: _Optional[_Iterable[_Union[Classification, _Mapping]]] = ..., policy_version: _Optional[str] = ..., classifier_version: _Optional[str] = ...) -> None: ...

class Classification(_message.Message):
    __slots__ = ("flagged", "categories")
    FLAGGED_FIELD_NUMBER: _ClassVar[int]
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    flagged: bool
    categories: _containers.RepeatedCompositeFieldContainer[CategoryScore]
    def __init__(self, flagged: _Optional[bool] = ..., categories: _Optional[_Iterable[_Union[CategoryScore, _Mapping]]] = ...) -> None: ...

class CategoryScore(_message.Message):
    __slots__ = ("category", "flagged", "score")
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    FLAGGED_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    category: str
    flagged: bool
    score: float
    def __init__(self, category: _Optional[str] = ..., flagged: _Optional[bool] = ..., score: _Optional[float] = ...) -> None: ...
