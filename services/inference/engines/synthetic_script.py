"""What the synthetic engine says to a request, before a token of it is told."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.inference.engines import synthetic_text
from services.inference.engines.engine import unsupported_response_format
from services.inference.engines.synthetic_json import UnknownFormError, draw, parse_schema
from services.inference.engines.synthetic_options import SyntheticOptions
from services.inference.engines.tool_calls import callable_tools, must_call, parameters_of, refused_parameters
from services.inference.model import (
    GenerationRequest,
    Message,
    ResponseForm,
    ResponseFormat,
    Role,
    Tool,
    ToolCallDelta,
    ToolOptions,
)
from services.runtime.errors import DomainError


@dataclass(frozen=True, slots=True)
class Script:
    """A fixed start, which goes on with the endless tape up to `length` tokens. `seed` says where on the tape.

    With `calls` the start is their arguments; they stand at the place of their first token.
    """

    start: synthetic_text.Tape
    length: int
    seed: int
    calls: Mapping[int, ToolCallDelta] = field(default_factory=dict)


def write_script(
    request: GenerationRequest, prompt: Sequence[Message], *, prompt_tokens: int, options: SyntheticOptions
) -> Script:
    """What is said: a function of the request and the options alone.

    Tools are called when the answer must be a call, or when it may be and the last message is the user's and names
    tools: those, and otherwise the first one.

    Raises:
        DomainError: the answer cannot have the form, or a call not follow its schema.
    """
    sampling = request.sampling
    seed = synthetic_text.seed_of(prompt, sampling.seed)
    if sampling.presence_penalty or sampling.frequency_penalty:
        # They are heard, if not obeyed.
        seed = zlib.crc32(f"{sampling.presence_penalty} {sampling.frequency_penalty}".encode(), seed)
    if request.tools is not None and (called := _called(request.tools, prompt)):
        return _calls(called, seed)
    if sampling.response_format is not None:
        start = synthetic_text.cut(_formed(request.model, sampling.response_format, seed, options.answer))
        return Script(start, len(start.ids), seed)
    if options.answer:
        start = synthetic_text.cut(options.answer)
        return Script(start, len(start.ids), seed)
    preface = synthetic_text.preface(seed=sampling.seed, messages=prompt, tokens=prompt_tokens)
    return Script(synthetic_text.cut(preface), options.answer_tokens, seed)


def _called(tools: ToolOptions, prompt: Sequence[Message]) -> Sequence[Tool]:
    choice = callable_tools(tools)
    asked = prompt[-1].content if prompt and prompt[-1].role is Role.USER else ""
    named = [tool for tool in choice if re.search(rf"\b{re.escape(tool.name)}\b", asked)]
    called = named or (choice[:1] if must_call(tools) else [])
    return called[:1] if tools.single_call else called


def _calls(tools: Sequence[Tool], seed: int) -> Script:
    texts: list[str] = []
    ids: list[int] = []
    pieces: list[bytes] = []
    calls: dict[int, ToolCallDelta] = {}
    for index, tool in enumerate(tools):
        try:
            arguments = draw(parameters_of(tool), seed + index)
        except (UnknownFormError, DomainError) as error:
            raise refused_parameters() from error
        tape = synthetic_text.cut(arguments)
        calls[len(ids)] = ToolCallDelta(index, f"call_{seed % 2**32:08x}{index:02x}", tool.name)
        texts += tape.texts
        ids += tape.ids
        pieces += tape.pieces
    return Script(synthetic_text.Tape(tuple(texts), tuple(ids), tuple(pieces)), len(ids), seed, calls)


def _formed(model: str, asked: ResponseFormat, seed: int, answer: str) -> str:
    if asked.form is ResponseForm.GRAMMAR:
        raise unsupported_response_format(model, f"{model} takes no grammars; use a JSON Schema.")
    schema = parse_schema(asked.text) if asked.form is ResponseForm.JSON_SCHEMA else None
    if _is_json(answer):
        return answer
    if schema is None:
        return json.dumps({"engine": "synthetic", "seed": seed % 2**16})
    try:
        return draw(schema, seed)
    except UnknownFormError as error:
        raise unsupported_response_format(model, f"{model} cannot follow this JSON Schema: {error}.") from error


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
