"""What a server's refusal means here.

Its text is never passed on, nor logged: it may quote the prompt, and some servers quote the key.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from services.inference.engines.engine import context_length_exceeded, engine_failed, invalid_response_format
from services.inference.model import GenerationRequest
from services.runtime.errors import DomainError, FieldViolation, Reason

_log = logging.getLogger(__name__)

_FIELDS = {
    "response_format": "sampling.response_format",
    "temperature": "sampling.temperature",
    "top_p": "sampling.top_p",
    "seed": "sampling.seed",
    "stop": "sampling.stop",
    "max_tokens": "sampling.max_tokens",
    "max_completion_tokens": "sampling.max_tokens",
    "presence_penalty": "sampling.presence_penalty",
    "frequency_penalty": "sampling.frequency_penalty",
    "logit_bias": "sampling.logit_bias",
    "logprobs": "top_logprobs",
    "top_logprobs": "top_logprobs",
    "tools": "tools",
    "tool_choice": "tools",
    "parallel_tool_calls": "tools",
    "messages": "messages",
}
"""What servers call the parts of a request that a caller wrote, and what they are called here."""

# vLLM and others say by their text alone that a prompt is too long.
_TOO_LONG = re.compile(r"context (length|size|window)|maximum model length|max_model_len", re.IGNORECASE)
_PROMPT_TOKENS = re.compile(r"(\d+) (?:in the messages|input tokens)|resulted in (\d+) tokens|request \((\d+) tokens\)")
_TOO_LONG_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error"})

_KEY_STATUSES = (401, 403)
_RETRY_AFTER_S = 1.0
_LONGEST_RETRY_S = 600.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """A reply that is no success: its HTTP status, its headers in lower case, and its body where that is JSON."""

    status: int
    headers: Mapping[str, str]
    body: Any = None
    keyed: bool = True
    """Whether the request had a key."""

    @property
    def error(self) -> dict[str, Any]:
        """The error as the body describes it."""
        body = self.body if isinstance(self.body, dict) else {}
        inner = body.get("error")
        return inner if isinstance(inner, dict) else body

    @property
    def is_about_length(self) -> bool:
        """Whether the prompt, or the prompt with the longest answer, is longer than the context."""
        if self.status not in (400, 413, 422):
            return False
        error = self.error
        known = {str(error.get("code")), str(error.get("type"))} & _TOO_LONG_CODES
        return bool(known) or error.get("param") == "input_tokens" or bool(_TOO_LONG.search(str(error.get("message"))))

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt that was too long, as far as the server says; or 0."""
        said = self.error.get("n_prompt_tokens")
        if isinstance(said, int):
            return said
        found = _PROMPT_TOKENS.search(str(self.error.get("message")))
        return int(next(group for group in found.groups() if group)) if found else 0

    @property
    def param(self) -> str:
        """The member of the request that is refused, when it is one that the caller wrote; or nothing."""
        named = self.error.get("param")
        detail = self.body.get("detail") if isinstance(self.body, dict) else None
        if not isinstance(named, str) and isinstance(detail, list) and detail and isinstance(detail[0], dict):
            # FastAPI: ["body", "temperature"].
            named = next((part for part in detail[0].get("loc", ())[1:] if isinstance(part, str)), None)
        name = re.split(r"[.\[]", named)[0] if isinstance(named, str) else ""
        return name if name in _FIELDS else ""


def refused(
    refusal: Refusal,
    *,
    model: str,
    context_length: int,
    estimated_tokens: int = 0,
    request: GenerationRequest | None = None,
) -> DomainError:
    """The error that a caller gets."""
    status = refusal.status
    _log.warning(
        "the model's server refused a request",
        extra={"model": model, "http_status": status, "param": refusal.param, "too_long": refusal.is_about_length},
    )
    if refusal.is_about_length:
        tokens = refusal.prompt_tokens or max(estimated_tokens, context_length)
        return context_length_exceeded(model, context_length=context_length, prompt_tokens=tokens)
    if status == 429 and refusal.error.get("code") != "insufficient_quota":
        return DomainError(
            Reason.OVERLOADED,
            f"The server of {model} takes no more requests for the moment; try again shortly.",
            metadata={"model": model},
            retry_after_s=_retry_after_s(refusal.headers),
        )
    if status in (400, 413, 422):
        return _invalid(refusal, model=model, request=request)
    return engine_failed(model, f"The model's server {_failure(refusal)}.")


def key_problem(refusal: Refusal, *, api_key_env: str) -> str:
    """What whoever keeps the models file should do about a key that the server misses or refuses; else nothing."""
    if refusal.status not in _KEY_STATUSES:
        return ""
    if refusal.keyed:
        return f"its server does not accept the key of {api_key_env}; correct that variable"
    return (
        f"its server wants a key (HTTP {refusal.status}): set api_key_env in its engine_options to the name of an "
        "environment variable that has it"
    )


def _failure(refusal: Refusal) -> str:
    status = refusal.status
    if 300 <= status < 400:
        return "sends requests elsewhere, which are not followed: correct the base_url in the models file"
    if status in _KEY_STATUSES:
        if refusal.keyed:
            return "does not accept the key of this service"
        return "wants a key, and is sent none: set api_key_env in the models file"
    if status == 404:
        return "does not have this model, or no such endpoint"
    if status == 429:
        return "has no budget left for this service"
    return f"failed (HTTP {status})"


def _invalid(refusal: Refusal, *, model: str, request: GenerationRequest | None) -> DomainError:
    param = refusal.param
    form = request is not None and request.sampling.response_format is not None
    if param == "response_format" or (form and not param):
        return invalid_response_format(
            "The response format cannot be held to.", "is not one that the model's server can hold an answer to"
        )
    if param and param != "messages":
        return DomainError(
            Reason.UNSUPPORTED_PARAMETER,
            f"The server of {model} does not take this {param}.",
            metadata={"param": param},
            fields=[FieldViolation(_FIELDS[param], "is not taken by the model's server")],
        )
    field = "tools" if request is not None and request.tools is not None and not param else "messages"
    return DomainError(
        Reason.INVALID_FIELD,
        f"{model} cannot process this prompt.",
        fields=[FieldViolation(field, "is refused by the model's server")],
    )


def _retry_after_s(headers: Mapping[str, str]) -> float:
    try:
        if "retry-after-ms" in headers:
            wait = float(headers["retry-after-ms"]) / 1000
        else:
            wait = _seconds(headers.get("retry-after", ""))
    except (ValueError, TypeError):
        wait = _RETRY_AFTER_S
    return min(max(wait, 0.0), _LONGEST_RETRY_S) if wait == wait else _RETRY_AFTER_S


def _seconds(text: str) -> float:
    if not text:
        return _RETRY_AFTER_S
    try:
        return float(text)
    except ValueError:
        return (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
