"""OpenAI's request for embeddings, read strictly, and its answer.

https://platform.openai.com/docs/api-reference/embeddings/create
"""

from __future__ import annotations

import base64
import json
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from services.conversation.embedding import Embedded
from services.conversation.openai_body import Body, invalid, read_object, unsupported, validated
from services.conversation.openai_response import OWN_KEY
from services.conversation.route_convert import route_to_json
from services.runtime.errors import DomainError, Reason
from services.runtime.server import MAX_MESSAGE_BYTES

MAX_TEXTS = 2048
MAX_CHARACTERS = 900_000
"""Of all texts together; they are checked as one."""
MAX_BODY_BYTES = MAX_MESSAGE_BYTES - 1024
"""Of the answer, which goes to the edge in one message."""

_Text = Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)]


class _Request(Body):
    model: str = Field(min_length=1, max_length=128)
    input: _Text | Annotated[list[_Text], Field(min_length=1, max_length=MAX_TEXTS)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(None, ge=1, le=65_536)
    user: str | None = Field(None, max_length=256)


@dataclass(frozen=True, slots=True)
class EmbeddingsBody:
    """What is asked. `dimensions` must be those of the model."""

    model: str
    texts: tuple[str, ...]
    as_base64: bool
    dimensions: int | None


def parse_embeddings(data: bytes) -> EmbeddingsBody:
    """Read the body of a request.

    Raises:
        DomainError: INVALID_BODY or UNSUPPORTED_PARAMETER; `param` in the metadata says where.
    """
    value = read_object(data)
    if isinstance(value.get("input"), list) and any(isinstance(item, int | list) for item in value["input"]):
        raise unsupported("input", "it is text here, and not token ids")
    body = validated(_Request, value)
    texts = (body.input,) if isinstance(body.input, str) else tuple(body.input)
    if sum(map(len, texts)) > MAX_CHARACTERS:
        raise invalid(f"input: must have at most {MAX_CHARACTERS} characters in all.", "input")
    return EmbeddingsBody(body.model, texts, body.encoding_format == "base64", body.dimensions)


def embeddings_json(made: Embedded, *, as_base64: bool) -> bytes:
    """The vectors as OpenAI's list.

    Raises:
        DomainError: INVALID_BODY: there are more of them than one answer can hold.
    """
    encode = _base64 if as_base64 else _floats
    tokens = made.usage.prompt_tokens
    rest = {
        "model": made.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        OWN_KEY: {"route": route_to_json(made.receipt)},
    }
    vectors = ", ".join(
        f'{{"object": "embedding", "index": {index}, "embedding": {encode(vector)}}}'
        for index, vector in enumerate(made.vectors)
    )
    data = f'{{"object": "list", "data": [{vectors}], {json.dumps(rest)[1:]}'.encode()
    if len(data) > MAX_BODY_BYTES:
        raise invalid(
            f"input: the vectors of {len(made.vectors)} texts do not fit into an answer of {MAX_BODY_BYTES} bytes;"
            f" send fewer at a time{'' if as_base64 else ', or ask for the encoding_format base64'}.",
            "input",
        )
    return data


def embeddings_error(error: DomainError, model: str) -> DomainError:
    """The error in the words of this method: a model that cannot embed is the wrong value of `model`."""
    if error.reason is not Reason.UNSUPPORTED_CAPABILITY:
        return error
    model = error.metadata.get("model") or model
    return DomainError(
        Reason.UNSUPPORTED_PARAMETER,
        f"The model '{model}' does not make embeddings.",
        metadata={**error.metadata, "param": "model"},
    )


def _floats(vector: Sequence[float]) -> str:
    """As many digits as tell each 32-bit float from every other; those of 64 bits would be twice as long."""
    return f"[{','.join(['%.9g'] * len(vector)) % tuple(vector)}]"


def _base64(vector: Sequence[float]) -> str:
    """As OpenAI sends it: the vector's 32-bit floats, the lowest byte first."""
    values = array("f", vector)
    if array("H", [1]).tobytes() != b"\1\0":
        values.byteswap()
    return f'"{base64.b64encode(values.tobytes()).decode()}"'
