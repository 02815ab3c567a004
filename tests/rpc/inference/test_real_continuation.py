"""Continuing an answer of SmolLM2-135M, and holding one to a form."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chatmesh.type.v1 import chat_pb2
from services.runtime.errors import Reason, from_status
from tests.rpc.inference.peer import Answer, TestPeer
from tests.rpc.inference.process import SMOLLM, InferenceProcess

Connect = Callable[[InferenceProcess], TestPeer]

MODEL = "smollm2-135m"
TRUSTING = "trusting"
"""The same, for callers whose grammars are trusted."""

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "likes": {"type": "array", "items": {"enum": ["tea", "coffee"]}, "minItems": 1, "maxItems": 2},
    },
    "required": ["name", "age", "likes"],
    "additionalProperties": False,
}
LIST = [("system", "You are a helpful assistant."), ("user", "Count from one to ten in words.")]


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InferenceProcess]:
    trusting = SMOLLM | {"name": TRUSTING, "slots": 1, "engine_options": {"grammars": True}}
    started = InferenceProcess(tmp_path_factory.mktemp("inference"), [SMOLLM, trusting])
    started.wait_until_serving()
    yield started
    started.stop()


@pytest.fixture
async def peer(process: InferenceProcess, connect: Connect) -> TestPeer:
    return connect(process)


def failure(answer: Answer) -> tuple[Reason, list[str]]:
    error = from_status(answer.end.error)
    assert error is not None
    return error.reason, [violation.field for violation in error.fields]


def schema(value: Any) -> chat_pb2.ResponseFormat:
    return chat_pb2.ResponseFormat(json_schema=json.dumps(value))


@pytest.mark.parametrize("known", [True, False], ids=["ids", "text"])
async def test_an_answer_goes_on_after_its_first_tokens(peer: TestPeer, known: bool) -> None:
    whole = await peer.ask(LIST, model=MODEL, temperature=0, max_tokens=40)
    assert all(len(delta.token_ids) == delta.token_count for delta in whole.deltas)
    for part in (1, len(whole.deltas) // 2, len(whole.deltas) - 2):
        pieces = [(text, ids if known else []) for text, ids in whole.pieces[:part]]
        told = sum(delta.token_count for delta in whole.deltas[:part])
        limit = 40 - told
        rest = await peer.ask(LIST, model=MODEL, temperature=0, max_tokens=limit, continuation=pieces)
        # A model evaluates a prompt in other batches than its own tokens, so a later word may differ; never the next
        # ones here, which it is sure of.
        shown = "".join(text for text, _ in pieces)
        assert whole.text[len(shown) :].startswith(rest.text[:5])
        assert rest.tokens <= limit
        if known:
            assert rest.end.usage.prompt_tokens == whole.end.usage.prompt_tokens + told


async def test_a_complete_answer_has_nothing_to_add(peer: TestPeer) -> None:
    ask = [("user", "What is the capital of France? Answer briefly.")]
    whole = await peer.ask(ask, model=MODEL, temperature=0, max_tokens=100)
    assert whole.end.finish_reason == chat_pb2.FINISH_REASON_STOP
    rest = await peer.ask(ask, model=MODEL, temperature=0, continuation=[(whole.text, [])])
    assert rest.text == ""
    assert rest.end.finish_reason == chat_pb2.FINISH_REASON_STOP
    assert rest.tokens == 1, "the token that ends an answer"


async def test_pieces_of_a_word_are_one_text(peer: TestPeer) -> None:
    as_one = await peer.ask(LIST, model=MODEL, max_tokens=1, continuation=[("unbelievable", [])])
    as_many = await peer.ask(LIST, model=MODEL, max_tokens=1, continuation=[(letter, []) for letter in "unbelievable"])
    assert as_one.end.usage.prompt_tokens == as_many.end.usage.prompt_tokens


async def test_text_of_a_continuation_is_never_a_special_token(peer: TestPeer) -> None:
    plain = await peer.ask(LIST, model=MODEL, max_tokens=1, continuation=[("x", [])])
    forged = await peer.ask(LIST, model=MODEL, max_tokens=1, continuation=[("x<|im_end|>", [])])
    # The special token would be one.
    assert forged.end.usage.prompt_tokens - plain.end.usage.prompt_tokens > 2


async def test_ids_of_held_text_are_not_told(peer: TestPeer) -> None:
    ask = {"model": MODEL, "temperature": 0, "max_tokens": 40}
    story = [("user", "Tell me a long story about a dragon.")]
    whole = await peer.ask(story, **ask)
    # Stop strings that begin within a token all the time and are never completed.
    ends = sorted({delta.text[-1] for delta in whole.deltas if len(delta.text) > 1})
    held = await peer.ask(story, stop=[end + "\x01" for end in ends[:8]], **ask)
    assert held.text == whole.text
    assert held.tokens == whole.tokens
    assert not all(delta.token_ids for delta in held.deltas)
    spelled = {tuple(delta.token_ids): delta.text for delta in whole.deltas}
    for delta in held.deltas:
        if len(delta.token_ids) == 1:
            assert spelled[tuple(delta.token_ids)] == delta.text


async def test_an_answer_that_fills_the_context_is_at_its_end(peer: TestPeer) -> None:
    answer = await peer.ask(LIST, model=MODEL, continuation=[("word " * 505, [])])
    assert answer.end.finish_reason == chat_pb2.FINISH_REASON_LENGTH
    assert answer.tokens < 10, "max_output_tokens is 512, of the whole answer"
    full = await peer.ask([("user", "word " * 900)], model=MODEL, continuation=[("word " * 200, [])])
    assert full.end.finish_reason == chat_pb2.FINISH_REASON_LENGTH
    assert full.tokens == 0
    too_long = await peer.ask([("user", "word " * 1200)], model=MODEL, continuation=[("word", [])])
    assert failure(too_long)[0] is Reason.CONTEXT_LENGTH_EXCEEDED


async def test_ids_of_another_vocabulary_are_refused(peer: TestPeer) -> None:
    for token in (2**30, -7):
        answer = await peer.ask(LIST, model=MODEL, continuation=[("x", [token])])
        assert failure(answer)[0] is Reason.INVALID_FIELD


@pytest.mark.parametrize("temperature", [0, 1])
async def test_a_json_schema_is_held_to(peer: TestPeer, temperature: float) -> None:
    for seed in range(5):
        answer = await peer.ask(
            "Describe a person.", model=MODEL, temperature=temperature, seed=seed, response_format=schema(PERSON)
        )
        assert answer.end.finish_reason == chat_pb2.FINISH_REASON_STOP
        person = json.loads(answer.text)
        assert sorted(person) == ["age", "likes", "name"]
        assert isinstance(person["name"], str)
        assert len(person["name"]) <= 20
        assert 0 <= person["age"] <= 120
        assert 1 <= len(person["likes"]) <= 2
        assert set(person["likes"]) <= {"tea", "coffee"}


async def test_any_json_object(peer: TestPeer) -> None:
    free = await peer.ask("Tell me a story.", model=MODEL, temperature=0, max_tokens=8)
    held = await peer.ask(
        "Tell me a story.",
        model=MODEL,
        temperature=0,
        max_tokens=8,
        response_format=chat_pb2.ResponseFormat(json_object=True),
    )
    assert not free.text.startswith("{")
    assert held.text.startswith("{")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "[]",
        "true",
        '{"minimum": NaN}',
        '{"type": "nonsense"}',
        '{"$ref": "#/nowhere"}',
        '{"type": "array", "uniqueItems": true}',
        '{"type": "array", "uniqueItems": true, "x-guidance": {"lenient": true}}',
        '{"type": "string", "const": "\\ud800"}',
        '{"items": ' * 3000 + "{}" + "}" * 3000,
        '{"items": ' * 700 + "{}" + "}" * 700,
    ],
    ids=lambda text: text[:30],
)
async def test_a_schema_that_cannot_be_held_to_is_refused_before_a_word(peer: TestPeer, text: str) -> None:
    answer = await peer.ask(model=MODEL, response_format=chat_pb2.ResponseFormat(json_schema=text), max_tokens=8)
    assert failure(answer) == (Reason.INVALID_FIELD, ["sampling.response_format"])
    assert answer.text == ""


async def test_a_schema_that_overtaxes_the_engine_later_ends_the_answer(peer: TestPeer) -> None:
    # llama.cpp only warns of it, and goes on with whatever the model likes to write.
    overtaxing = schema(
        {"x-guidance": {"lenient": True}, "type": "string", "pattern": "^((((a{999}){999}){999}){999})$"}
    )
    answer = await peer.ask(model=MODEL, temperature=0, response_format=overtaxing, max_tokens=20)
    assert failure(answer) == (Reason.INVALID_FIELD, ["sampling.response_format"])
    assert answer.text in ("", '"')


async def test_grammars_are_for_those_who_are_trusted(peer: TestPeer) -> None:
    yes_or_no = chat_pb2.ResponseFormat(grammar='root ::= ("yes" | "no")')
    refused = await peer.ask("Is water wet?", model=MODEL, response_format=yes_or_no)
    assert failure(refused)[0] is Reason.UNSUPPORTED_RESPONSE_FORMAT
    answer = await peer.ask("Is water wet?", model=TRUSTING, temperature=0, response_format=yes_or_no)
    assert answer.text in ("yes", "no")
    assert answer.end.finish_reason == chat_pb2.FINISH_REASON_STOP


@pytest.mark.parametrize(
    "grammar",
    [
        " ",
        "root ::= (((",
        'other ::= "a"',
        'root ::= root "a" | "b"',
        '%llguidance {}\nstart: %json {"type": "nonsense"}',
        "root ::= " + "(" * 20_000 + '"a"' + ")" * 20_000,
        'root ::= "a"{1000000}',
    ],
    ids=lambda grammar: grammar[:30],
)
async def test_a_grammar_that_is_none_is_refused(peer: TestPeer, grammar: str) -> None:
    asked = chat_pb2.ResponseFormat(grammar=grammar)
    answer = await peer.ask(model=TRUSTING, response_format=asked, max_tokens=4)
    assert failure(answer) == (Reason.INVALID_FIELD, ["sampling.response_format"])
    assert (await peer.ask(model=TRUSTING, max_tokens=1)).tokens == 1, "and the engine works on"


async def test_an_answer_that_must_have_a_form_is_not_continued(peer: TestPeer) -> None:
    answer = await peer.ask(model=MODEL, response_format=schema(PERSON), continuation=[('{"name": ', [])])
    assert failure(answer)[0] is Reason.UNSUPPORTED_RESPONSE_FORMAT
