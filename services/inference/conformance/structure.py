"""Answers that must have a form have it, or are refused: the form is never ignored."""

from __future__ import annotations

import json
from typing import Any

from services.inference.conformance.case import Case, needs
from services.inference.conformance.expectation import expect, expect_finish, quote
from services.inference.conformance.schema import parse_valid
from services.inference.conformance.subject import Subject
from services.inference.model import Capability, FinishReason, ResponseForm, ResponseFormat
from services.runtime.errors import Reason

WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "enum": ["Paris", "Berlin", "Tokyo"]},
        "sunny": {"type": "boolean"},
        "wind": {"type": "integer", "minimum": 0, "maximum": 9},
        "clothes": {"type": "array", "items": {"enum": ["hat", "coat"]}, "minItems": 1, "maxItems": 2},
    },
    "required": ["city", "sunny", "wind", "clothes"],
    "additionalProperties": False,
}
_ANSWER = {"type": "object", "properties": {"answer": {"enum": ["yes", "no"]}}, "required": ["answer"]}
_REFUSALS = (Reason.INVALID_FIELD, Reason.UNSUPPORTED_RESPONSE_FORMAT)
_JSON = needs(Capability.JSON)


def _schema(value: Any) -> ResponseFormat:
    return ResponseFormat(ResponseForm.JSON_SCHEMA, value if isinstance(value, str) else json.dumps(value))


async def _object(subject: Subject) -> None:
    answer = await subject.ask(
        "Write a small JSON object about a cat.", response_format=ResponseFormat(ResponseForm.JSON_OBJECT)
    )
    expect_finish(answer.end, FinishReason.STOP, FinishReason.LENGTH)
    expect(answer.text.lstrip().startswith("{"), f"{quote(answer.text)} is no JSON object")
    if answer.end.finish_reason is FinishReason.STOP:
        parse_valid(answer.text, {"type": "object"})


async def _described(subject: Subject) -> None:
    for temperature, seed in ((0.0, 0), (1.0, 1), (1.0, 2)):
        answer = await subject.ask(
            "What is the weather?", temperature=temperature, seed=seed, response_format=_schema(WEATHER)
        )
        expect_finish(answer.end, FinishReason.STOP)
        parse_valid(answer.text, WEATHER)


async def _many_forms(subject: Subject) -> None:
    schemas = (WEATHER, _ANSWER, WEATHER, _ANSWER)[: subject.entry.slots]
    answers = [subject.start("Say something.", response_format=_schema(schema)) for schema in schemas]
    for schema, answer in zip(schemas, answers, strict=True):
        await answer.finished(patience_s=subject.patience_s)
        expect_finish(answer.end, FinishReason.STOP)
        parse_valid(answer.text, schema)


async def _with_a_stop_string(subject: Subject) -> None:
    answer = await subject.ask("Say something.", response_format=_schema(_ANSWER), stop=("wer",))
    expect_finish(answer.end, FinishReason.STOP)
    expect("answer" not in answer.text, "a stop string was passed over in an answer that must have a form")


async def _refused(subject: Subject) -> None:
    for text in ("no JSON", "[]", '{"type": "nonsense"}', '{"$ref": "#/nowhere"}'):
        answer = await subject.ask(response_format=_schema(text), max_tokens=8)
        expect_finish(answer.end, FinishReason.ERROR)
        error = answer.end.error
        expect(
            error is not None and error.reason in _REFUSALS,
            f"the schema {text} was refused with {error.reason.value if error else 'nothing'}",
        )
        expect(not answer.text, f"the schema {text} was refused only after {quote(answer.text)}")
    expect((await subject.ask(max_tokens=1)).tokens == 1, "the engine does not go on after it refused a schema")


CASES = (
    Case("json_object", "an answer that must be a JSON object is one", _object, _JSON),
    Case("json_schema", "an answer that must follow a JSON Schema does, at any temperature", _described, _JSON),
    Case("many_forms", "answers that run together keep to their own forms", _many_forms, _JSON),
    Case("form_and_stop", "stop strings end such answers, too", _with_a_stop_string, _JSON),
    Case("form_refused", "a schema that cannot be held to is refused before a word", _refused, _JSON),
)
