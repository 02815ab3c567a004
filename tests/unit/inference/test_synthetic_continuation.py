"""The synthetic engine goes on after any cut of its text as if there had been none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.inference.engines import synthetic_text
from services.inference.engines.synthetic import SyntheticEngine
from services.inference.model import (
    Delta,
    End,
    FinishReason,
    GeneratedPiece,
    GenerationRequest,
    Message,
    ResponseForm,
    ResponseFormat,
    Role,
    Sampling,
)
from services.runtime.errors import Reason
from services.runtime.model_registry import ModelEntry

PROMPT = (Message(Role.USER, "Hello"),)


def engine(*, context_length: int = 2000, max_output_tokens: int = 1500, **options: Any) -> SyntheticEngine:
    return SyntheticEngine(
        ModelEntry(
            name="synthetic",
            engine="synthetic",
            context_length=context_length,
            max_output_tokens=max_output_tokens,
            engine_options={"tokens_per_second": 0, **options},
        )
    )


def request(
    continuation: str | Sequence[str] = (), *, messages: Sequence[Message] = PROMPT, **sampling: Any
) -> GenerationRequest:
    pieces = [continuation] if isinstance(continuation, str) else continuation
    return GenerationRequest(
        key=0,
        generation_id="g",
        model="synthetic",
        messages=tuple(messages),
        sampling=Sampling(**sampling),
        continuation=tuple(GeneratedPiece(piece) for piece in pieces if piece),
    )


class Said:
    """What became of a generation."""

    def __init__(self, deltas: list[Delta]) -> None:
        self.deltas = deltas
        self.text = "".join(delta.text for delta in deltas)
        self.tokens = sum(delta.token_count for delta in deltas)

    @property
    def end(self) -> End:
        end = self.deltas[-1].end
        assert end is not None
        return end

    @property
    def reason(self) -> Reason | None:
        return None if self.end.error is None else self.end.error.reason


def say(engine: SyntheticEngine, *requests: GenerationRequest) -> list[Said]:
    """Let an engine answer them all."""

    async def run() -> list[Said]:
        await engine.start()
        ended = asyncio.Event()
        said: list[list[Delta]] = [[] for _ in requests]
        left = set(range(len(requests)))

        def sink(place: int, delta: Delta) -> None:
            said[place].append(delta)
            if delta.end is not None:
                left.discard(place)
                if not left:
                    ended.set()

        for place, asked in enumerate(requests):
            engine.submit(
                GenerationRequest(
                    key=place,
                    generation_id=asked.generation_id,
                    model=asked.model,
                    messages=asked.messages,
                    sampling=asked.sampling,
                    continuation=asked.continuation,
                ),
                lambda delta, place=place: sink(place, delta),  # type: ignore[misc]
            )
        await ended.wait()
        await engine.close()
        return [Said(deltas) for deltas in said]

    return asyncio.run(run())


def check_every_cut(talker: SyntheticEngine, *, max_tokens: int | None = None, **sampling: Any) -> Said:
    """Every cut of the answer goes on to the same text, number of tokens and reason for the end."""
    [whole] = say(talker, request(max_tokens=max_tokens, **sampling))
    told = {cut: synthetic_text.count_tokens(whole.text[:cut]) for cut in range(len(whole.text) + 1)}
    # What the last token of the limit leaves untold cannot be asked for: no request is for no tokens.
    cuts = [cut for cut, tokens in told.items() if max_tokens is None or tokens < max_tokens]
    continued = say(
        talker,
        *(
            request(
                [whole.text[: cut // 2], whole.text[cut // 2 : cut]],
                max_tokens=None if max_tokens is None else max_tokens - told[cut],
                **sampling,
            )
            for cut in cuts
        ),
    )
    for cut, rest in zip(cuts, continued, strict=True):
        assert whole.text[:cut] + rest.text == whole.text
        assert rest.end.finish_reason is whole.end.finish_reason
        assert rest.tokens == rest.end.usage.completion_tokens
        assert told[cut] + rest.tokens == whole.tokens
        assert rest.end.usage.prompt_tokens == whole.end.usage.prompt_tokens + told[cut]
    # And this is what a caller knows of it that adds up what it was told.
    length = tokens = 0
    for delta in whole.deltas[:-1]:
        length += len(delta.text)
        tokens += delta.token_count
        assert tokens == told[length]
    return whole


@pytest.mark.parametrize("seed", [None, 1, 7, 12])
@pytest.mark.parametrize("max_tokens", [None, 1, 50, 100, 101, 102, 103])
def test_every_cut_of_a_drawn_answer(seed: int | None, max_tokens: int | None) -> None:
    whole = check_every_cut(engine(answer_tokens=120), seed=seed, max_tokens=max_tokens)
    assert whole.end.finish_reason is (FinishReason.LENGTH if max_tokens else FinishReason.STOP)
    assert whole.tokens == (max_tokens or 120)


@pytest.mark.parametrize("limits", [{"max_output_tokens": 90}, {"context_length": 100, "max_output_tokens": 100}])
def test_the_limits_of_the_model_are_those_of_the_whole_answer(limits: dict[str, int]) -> None:
    whole = check_every_cut(engine(answer_tokens=120, **limits), seed=3)
    assert whole.end.finish_reason is FinishReason.LENGTH


@pytest.mark.parametrize("stop", ["token", "s", "smör", "本", "ynth", ". ", " "])
def test_every_cut_of_an_answer_that_a_stop_string_ends(stop: str) -> None:
    whole = check_every_cut(engine(answer_tokens=400), seed=5, stop=(stop, "never said"))
    assert whole.end.finish_reason is FinishReason.STOP
    assert whole.tokens < 400


def test_a_stop_string_that_might_have_begun_before_the_cut_is_waited_for_as_without_the_cut() -> None:
    whole = check_every_cut(engine(answer="a😀."), stop=("😀", "a😀a"))
    assert (whole.text, whole.tokens) == ("a", 4)


few = st.text("ab .é日😀", max_size=30)


@settings(max_examples=150, deadline=None)
@given(
    answer=few.filter(bool),
    stops=st.lists(st.text("ab .é日😀", min_size=1, max_size=4), max_size=3),
    max_tokens=st.none() | st.integers(1, 20),
)
def test_every_cut_of_any_answer(answer: str, stops: list[str], max_tokens: int | None) -> None:
    check_every_cut(engine(answer=answer), stop=tuple(stops), max_tokens=max_tokens)


@settings(max_examples=50, deadline=None)
@given(answer=few.filter(bool), stop=st.text("ab .é日😀", min_size=2, max_size=5))
def test_no_stop_string_straddles_what_was_told(answer: str, stop: str) -> None:
    [whole] = say(engine(answer=answer), request(stop=(stop,)))
    shown = ""
    for delta in whole.deltas[:-1]:
        shown += delta.text
        for length in range(1, len(stop)):
            # A tail that begins the stop string was only told because it goes on as something else.
            if shown.endswith(stop[:length]):
                assert not answer.startswith(stop, len(shown) - length)


def test_an_answer_of_the_prompt_and_its_continuation() -> None:
    talker = engine(answer_tokens=60)
    [whole] = say(talker, request(seed=1))
    # The cut of an assistant's message is at a token, that of a continuation anywhere.
    opened = "".join(delta.text for delta in whole.deltas[:30])
    messages = (*PROMPT, Message(Role.ASSISTANT, opened))
    for cut in range(len(opened), len(whole.text) + 1):
        [rest] = say(talker, request(whole.text[len(opened) : cut], messages=messages, seed=1))
        assert whole.text[:cut] + rest.text == whole.text


@pytest.mark.parametrize("after", range(1, 79, 6))
def test_an_engine_that_fails_is_replaced_by_another(after: int) -> None:
    whole, failed = (
        say(engine(answer_tokens=80, **fault), request(seed=2, max_tokens=79))[0]
        for fault in ({}, {"fail_after_tokens": after})
    )
    assert failed.reason is Reason.ENGINE_FAILED
    [rest] = say(engine(answer_tokens=80), request(failed.text, seed=2, max_tokens=79 - failed.tokens))
    assert failed.text + rest.text == whole.text
    assert failed.tokens + rest.tokens == whole.tokens == 79
    assert rest.end.finish_reason is whole.end.finish_reason is FinishReason.LENGTH


def test_faults_count_the_tokens_of_this_generation() -> None:
    talker = engine(answer_tokens=60, fail_after_tokens=10)
    [first] = say(talker, request())
    [second] = say(talker, request(first.text))
    assert first.reason is second.reason is Reason.ENGINE_FAILED
    assert first.tokens == second.tokens == 10


def test_an_engine_fails_so_many_times_and_no_more() -> None:
    talker = engine(answer_tokens=60, fail_after_tokens=10, fail_times=2)
    reasons = [say(talker, request())[0].reason for _ in range(4)]
    assert reasons == [Reason.ENGINE_FAILED, Reason.ENGINE_FAILED, None, None]
    # Those that run when it has failed for the last time are spared.
    assert [said.reason for said in say(engine(fail_after_tokens=10, fail_times=1), request(), request())] == [
        Reason.ENGINE_FAILED,
        None,
    ]
    assert say(engine(fail_after_tokens=10, fail_times=0), request())[0].reason is None


def test_a_text_longer_than_the_answer_ends_it() -> None:
    [said] = say(engine(answer="Hello."), request("Something else that is longer."))
    assert said.text == ""
    assert said.end.finish_reason is FinishReason.STOP
    assert said.tokens == 0


@pytest.mark.parametrize("form", list(ResponseForm))
def test_it_refuses_a_form_that_it_cannot_hold(form: ResponseForm) -> None:
    asked = request(response_format=ResponseFormat(form, "{}"))
    assert say(engine(answer="{}", lacks=["json"]), asked)[0].reason is Reason.UNSUPPORTED_RESPONSE_FORMAT
    held = say(engine(answer='{"scripted": 1}'), asked)[0]
    if form is ResponseForm.GRAMMAR:
        assert held.reason is Reason.UNSUPPORTED_RESPONSE_FORMAT
    else:
        assert held.text == '{"scripted": 1}'
        assert held.end.finish_reason is FinishReason.STOP
    # What is scripted and no JSON is not said where JSON must be.
    other = say(engine(answer="Hello."), request(response_format=ResponseFormat(ResponseForm.JSON_OBJECT)))[0]
    assert isinstance(json.loads(other.text), dict)
