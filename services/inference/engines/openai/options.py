"""`engine_options` of a model behind an OpenAI-compatible server.

What to set for which server::

    vLLM, NIM      continuation: prefill  tokenizer: server  chunk_counts: vllm
    llama-server   continuation: prefill  tokenizer: server  chunk_counts: llama_cpp  send_stops: false
    a hosted API   api_key_env: SOME_API_KEY                 and often max_tokens_field: max_completion_tokens

Where a server cannot do what others can, the entry's `capabilities` leave it out.
"""

from __future__ import annotations

import os
import re
from typing import Any, Literal

import httpx
from pydantic import BaseModel, ConfigDict, Field, field_validator

from services.runtime.settings import SettingsError

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_VISIBLE = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")
_SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "api-key", "x-api-key"})
_OWN_MEMBERS = frozenset({"model", "messages", "stream", "n", "input", "prompt", "encoding_format"})


class OpenAIOptions(BaseModel):
    """How to speak with the server."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    base_url: str = Field(description="where its API begins, /v1 included, such as http://vllm:8000/v1")
    model: str = Field("", description="the model's name there; empty is the name of the entry")
    api_key_env: str = Field("", description="environment variable that has the key; empty sends none")
    headers: dict[str, str] = Field(default_factory=dict, description="sent with each request; nothing secret")
    extra_body: dict[str, Any] = Field(
        default_factory=dict, description="members of each generation's body, such as top_k; the request's own win"
    )
    embeddings: bool = Field(False, description="the model embeds texts and writes none")
    continuation: Literal["none", "prefill"] = Field(
        "none",
        description="how an answer is continued. prefill: as the last message, which the server leaves open. "
        "none: it cannot be",
    )
    chunk_counts: Literal["none", "vllm", "llama_cpp"] = Field(
        "none",
        description="how the server is asked for token counts in each chunk. With none a chunk is one token until the "
        "end sets it right, and an answer that is cut off has an estimated prompt",
    )
    send_stops: bool = Field(
        True,
        description="sends stop strings, too; false where a server loses text that it holds back: llama.cpp",
    )
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = Field(
        "max_tokens", description="what the server calls the limit of an answer"
    )
    tokenizer: Literal["estimate", "server"] = Field(
        "estimate",
        description="how tokens are counted. server: by its POST /tokenize. estimate: by bytes, rather high",
    )
    bytes_per_token: float = Field(
        2.5, ge=1, le=16, description="of the estimate; English has about four, and most languages more than this"
    )
    tokens_per_message: int = Field(8, ge=0, description="at most added to each message, for the estimate")
    tokens_per_prompt: int = Field(64, ge=0, description="at most added to each prompt, for the estimate")
    start_timeout_s: float = Field(30, ge=0, description="wait at the start for a server that does not answer yet")
    connect_timeout_s: float = Field(5, gt=0, description="wait for a connection")
    first_event_timeout_s: float = Field(
        120, gt=0, description="wait for an answer to begin, in the server's queue, too"
    )
    idle_timeout_s: float = Field(30, gt=0, description="longest silence in an answer")
    request_timeout_s: float = Field(60, gt=0, description="for embeddings and token counts")

    @field_validator("base_url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        try:
            url = httpx.URL(value)
        except (httpx.InvalidURL, TypeError) as error:
            raise ValueError("is no URL") from error
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError("must begin with http:// or https:// and a host")
        if url.userinfo or url.query or url.fragment:
            raise ValueError("must have no user, query or fragment; the key belongs in the variable of api_key_env")
        return value.rstrip("/")

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, value: dict[str, str]) -> dict[str, str]:
        for name, content in value.items():
            if not _HEADER_NAME.fullmatch(name) or not _VISIBLE.fullmatch(content):
                raise ValueError(f"{name!r} is no header of one line of ASCII")
            if name.lower() in _SECRET_HEADERS:
                raise ValueError(f"{name} is secret; use api_key_env")
        return value

    @field_validator("extra_body")
    @classmethod
    def _leaves_the_request_alone(cls, value: dict[str, Any]) -> dict[str, Any]:
        if own := sorted(_OWN_MEMBERS & value.keys()):
            raise ValueError(f"{', '.join(own)} is set by each request")
        return value

    @property
    def root_url(self) -> str:
        """Where the server's own paths begin, beside those of OpenAI."""
        return self.base_url.removesuffix("/v1")


def read_key(options: OpenAIOptions, *, model: str) -> str:
    """The key, or nothing when none is to be sent.

    Raises:
        SettingsError: the variable is not set, or has what no header can carry. The text never holds the key.
    """
    if not options.api_key_env:
        return ""
    key = os.environ.get(options.api_key_env, "").strip()
    if not key:
        raise SettingsError(f"model {model}: set {options.api_key_env} in the environment to the key of its server")
    if not _VISIBLE.fullmatch(key):
        raise SettingsError(f"model {model}: what {options.api_key_env} holds is no key: it must be one line of ASCII")
    return key
