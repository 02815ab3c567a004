from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class GuardJob(_message.Message):
    __slots__ = ("generation_id", "conversation_id", "user_id", "tenant_id", "tier", "residency", "input", "text", "question", "policy_version")
    GENERATION_ID_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    RESIDENCY_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    generation_id: str
    conversation_id: str
    user_id: str
    tenant_id: str
    tier: str
    residency: str
    input: bool
    text: str
    question: str
    policy_version: str
    def __init__(self, generation_id: _Optional[str] = ..., conversation_id: _Optional[str] = ..., user_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., tier: _Optional[str] = ..., residency: _Optional[str] = ..., input: _Optional[bool] = ..., text: _Optional[str] = ..., question: _Optional[str] = ..., policy_version: _Optional[str] = ...) -> None: ...
