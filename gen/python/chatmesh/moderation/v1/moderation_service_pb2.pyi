from chatmesh.moderation.v1 import verdict_pb2 as _verdict_pb2
from chatmesh.type.v1 import limits_pb2 as _limits_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CheckInputRequest(_message.Message):
    __slots__ = ("generation_id", "texts")
    GENERATION_ID_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    generation_id: str
    texts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, generation_id: _Optional[str] = ..., texts: _Optional[_Iterable[str]] = ...) -> None: ...

class CheckInputResponse(_message.Message):
    __slots__ = ("verdict",)
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    verdict: _verdict_pb2.Verdict
    def __init__(self, verdict: _Optional[_Union[_verdict_pb2.Verdict, _Mapping]] = ...) -> None: ...

class CheckStreamRequest(_message.Message):
    __slots__ = ("segments",)
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    segments: _containers.RepeatedCompositeFieldContainer[Segment]
    def __init__(self, segments: _Optional[_Iterable[_Union[Segment, _Mapping]]] = ...) -> None: ...

class Segment(_message.Message):
    __slots__ = ("generation_id", "text", "last", "abandoned")
    GENERATION_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    ABANDONED_FIELD_NUMBER: _ClassVar[int]
    generation_id: str
    text: str
    last: bool
    abandoned: bool
    def __init__(self, generation_id: _Optional[str] = ..., text: _Optional[str] = ..., last: _Optional[bool] = ..., abandoned: _Optional[bool] = ...) -> None: ...

class CheckStreamResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[SegmentResult]
    def __init__(self, results: _Optional[_Iterable[_Union[SegmentResult, _Mapping]]] = ...) -> None: ...

class SegmentResult(_message.Message):
    __slots__ = ("generation_id", "watermark", "retractions", "done", "policy_version")
    GENERATION_ID_FIELD_NUMBER: _ClassVar[int]
    WATERMARK_FIELD_NUMBER: _ClassVar[int]
    RETRACTIONS_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    generation_id: str
    watermark: int
    retractions: _containers.RepeatedCompositeFieldContainer[_verdict_pb2.Retraction]
    done: bool
    policy_version: str
    def __init__(self, generation_id: _Optional[str] = ..., watermark: _Optional[int] = ..., retractions: _Optional[_Iterable[_Union[_verdict_pb2.Retraction, _Mapping]]] = ..., done: _Optional[bool] = ..., policy_version: _Optional[str] = ...) -> None: ...
