from chatmesh.type.v1 import chat_pb2 as _chat_pb2
from chatmesh.type.v1 import limits_pb2 as _limits_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AssembleContextRequest(_message.Message):
    __slots__ = ("start", "target", "history_page")
    START_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    HISTORY_PAGE_FIELD_NUMBER: _ClassVar[int]
    start: ContextStart
    target: ContextTarget
    history_page: HistoryPage
    def __init__(self, start: _Optional[_Union[ContextStart, _Mapping]] = ..., target: _Optional[_Union[ContextTarget, _Mapping]] = ..., history_page: _Optional[_Union[HistoryPage, _Mapping]] = ...) -> None: ...

class AssembleContextResponse(_message.Message):
    __slots__ = ("history_request", "assembled")
    HISTORY_REQUEST_FIELD_NUMBER: _ClassVar[int]
    ASSEMBLED_FIELD_NUMBER: _ClassVar[int]
    history_request: HistoryRequest
    assembled: AssembledContext
    def __init__(self, history_request: _Optional[_Union[HistoryRequest, _Mapping]] = ..., assembled: _Optional[_Union[AssembledContext, _Mapping]] = ...) -> None: ...

class ContextStart(_message.Message):
    __slots__ = ("system_prompt", "user_message", "first_page", "custom_instructions", "beside_messages")
    SYSTEM_PROMPT_FIELD_NUMBER: _ClassVar[int]
    USER_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FIRST_PAGE_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_INSTRUCTIONS_FIELD_NUMBER: _ClassVar[int]
    BESIDE_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    system_prompt: str
    user_message: str
    first_page: HistoryPage
    custom_instructions: str
    beside_messages: str
    def __init__(self, system_prompt: _Optional[str] = ..., user_message: _Optional[str] = ..., first_page: _Optional[_Union[HistoryPage, _Mapping]] = ..., custom_instructions: _Optional[str] = ..., beside_messages: _Optional[str] = ...) -> None: ...

class ContextTarget(_message.Message):
    __slots__ = ("model", "context_length", "reserved_output_tokens", "tokenizer_address", "default_system_prompt")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    RESERVED_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_SYSTEM_PROMPT_FIELD_NUMBER: _ClassVar[int]
    model: str
    context_length: int
    reserved_output_tokens: int
    tokenizer_address: str
    default_system_prompt: str
    def __init__(self, model: _Optional[str] = ..., context_length: _Optional[int] = ..., reserved_output_tokens: _Optional[int] = ..., tokenizer_address: _Optional[str] = ..., default_system_prompt: _Optional[str] = ...) -> None: ...

class HistoryRequest(_message.Message):
    __slots__ = ("max_messages",)
    MAX_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    max_messages: int
    def __init__(self, max_messages: _Optional[int] = ...) -> None: ...

class HistoryPage(_message.Message):
    __slots__ = ("messages", "exhausted")
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    EXHAUSTED_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[HistoryMessage]
    exhausted: bool
    def __init__(self, messages: _Optional[_Iterable[_Union[HistoryMessage, _Mapping]]] = ..., exhausted: _Optional[bool] = ...) -> None: ...

class HistoryMessage(_message.Message):
    __slots__ = ("id", "message")
    ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    id: str
    message: _chat_pb2.ChatMessage
    def __init__(self, id: _Optional[str] = ..., message: _Optional[_Union[_chat_pb2.ChatMessage, _Mapping]] = ...) -> None: ...

class AssembledContext(_message.Message):
    __slots__ = ("messages", "prompt_tokens", "oldest_message_id", "truncated", "available_output_tokens")
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OLDEST_MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[_chat_pb2.ChatMessage]
    prompt_tokens: int
    oldest_message_id: str
    truncated: bool
    available_output_tokens: int
    def __init__(self, messages: _Optional[_Iterable[_Union[_chat_pb2.ChatMessage, _Mapping]]] = ..., prompt_tokens: _Optional[int] = ..., oldest_message_id: _Optional[str] = ..., truncated: _Optional[bool] = ..., available_output_tokens: _Optional[int] = ...) -> None: ...
