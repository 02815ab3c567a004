"""The suite itself: an engine that breaks a rule fails the cases that are about it, and nothing is left out quietly."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from services.inference.conformance.subject import Subject
from services.inference.conformance.suite import CASES, CaseResult, Outcome, run_suite
from services.inference.engines.synthetic import SyntheticEngine
from services.inference.model import (
    Capability,
    Delta,
    Embeddings,
    End,
    EngineStats,
    FinishReason,
    GenerationRequest,
    Sink,
    TokenCounts,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from services.runtime.model_registry import ModelEntry

ENTRY = ModelEntry(
    name="synthetic",
    engine="synthetic",
    context_length=512,
    max_output_tokens=100,
    slots=4,
    engine_options={"tokens_per_second": 0, "answer_tokens": 1_000},
)


class Faulty(SyntheticEngine):
    """A synthetic engine whose requests and deltas are tampered with."""

    def __init__(
        self,
        request: Callable[[GenerationRequest], GenerationRequest] = lambda request: request,
        delta: Callable[[Delta], Delta | None] = lambda delta: delta,
    ) -> None:
        super().__init__(ENTRY)
        self._request = request
        self._change = delta

    def submit(self, request: GenerationRequest, sink: Sink) -> None:
        def tampered(delta: Delta) -> None:
            changed = self._change(delta)
            if changed is not None:
                sink(changed)

        super().submit(self._request(request), tampered)


class Twice(Faulty):
    """Ends every answer twice."""

    def submit(self, request: GenerationRequest, sink: Sink) -> None:
        def twice(delta: Delta) -> None:
            sink(delta)
            if delta.end is not None:
                sink(Delta(delta.generation_id, "", [], 0, delta.end))

        super().submit(request, twice)


class Deaf(Faulty):
    """Hears no cancel."""

    def cancel(self, key: int) -> None:
        """Do nothing."""


class Lazy(Faulty):
    """Ends a cancelled answer some time later."""

    def cancel(self, key: int) -> None:
        asyncio.get_running_loop().call_later(0.05, super().cancel, key)


class Miscounting(Faulty):
    """Counts every text as ten tokens, and vaunts its cache."""

    async def count_tokens(self, texts: Sequence[str]) -> TokenCounts:
        return TokenCounts((10,) * len(texts), 0, 0)

    def stats(self) -> EngineStats:
        return EngineStats(kv_cache_usage=17.0)


class Embedding(Faulty):
    """Turns texts into vectors that are too long and go by their places."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset({Capability.EMBEDDINGS})

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        angles = [3 * at + 0.7 * len(texts) for at in range(len(texts))]
        return Embeddings([[1.2 * math.cos(angle), 1.2 * math.sin(angle)] for angle in angles], 10)


def sampling(**changes: Any) -> Faulty:
    return Faulty(request=lambda request: replace(request, sampling=replace(request.sampling, **changes)))


def asking(**changes: Any) -> Faulty:
    return Faulty(request=lambda request: replace(request, **changes))


def telling(change: Callable[[Delta], Any]) -> Faulty:
    def delta(delta: Delta) -> Delta:
        changed = change(delta)
        return changed if isinstance(changed, Delta) else delta

    return Faulty(delta=delta)


def miscount(delta: Delta) -> None:
    if delta.end is not None:
        delta.end = replace(delta.end, usage=Usage(5, 1_000, 9))


def halve(delta: Delta) -> None:
    delta.text = "".join(character if character.isascii() else "\ufffd" for character in delta.text)


def call_again(delta: Delta) -> None:
    delta.tool_calls = [ToolCallDelta(call.index, "id", "switch_light", call.arguments) for call in delta.tool_calls]


def call_wrongly(delta: Delta) -> None:
    delta.tool_calls = [replace(call, arguments=call.arguments.replace('"', "'")) for call in delta.tool_calls]


def be_certain(delta: Delta) -> None:
    delta.logprobs = [TokenLogprob("?", b"!", 0.5) for _ in delta.logprobs]


def forget_sum(delta: Delta) -> None:
    delta.logprob_sum = None


def stop_politely(delta: Delta) -> None:
    if delta.end is not None and delta.end.error is not None:
        delta.end = End(FinishReason.STOP)


def at_once(held: dict[str, list[Delta]]) -> Callable[[Delta], Delta | None]:
    def hold(delta: Delta) -> Delta | None:
        parts = held.setdefault(delta.generation_id, [])
        parts.append(delta)
        if delta.end is None:
            return None
        del held[delta.generation_id]
        return Delta(
            delta.generation_id, "".join(part.text for part in parts), [], delta.end.usage.completion_tokens, delta.end
        )

    return hold


FAULTS: dict[str, tuple[Callable[[], Faulty], set[str]]] = {
    "two ends": (lambda: Twice(), {"one_end", "cancel"}),
    "no parts": (lambda: Faulty(delta=at_once({})), {"in_parts", "token_ids"}),
    "no stops": (lambda: sampling(stop=()), {"stop_string", "stop_over_tokens", "several_stops"}),
    "other stops": (lambda: sampling(stop=("a", "e", "i")), {"stop_never_met", "stop_at_the_limit", "max_tokens"}),
    "no limit": (lambda: sampling(max_tokens=None), {"max_tokens", "tool_limit", "continue_tokens"}),
    "no seed": (lambda: sampling(seed=None), {"other_seed"}),
    "no form": (lambda: sampling(response_format=None), {"json_object", "json_schema", "many_forms", "form_refused"}),
    "no bias": (lambda: sampling(logit_bias=()), {"bias_forces", "bias_bans"}),
    "no continuation": (
        lambda: asking(continuation=()),
        {"continue_tokens", "continue_text", "continue_anywhere", "max_output_continued"},
    ),
    "no tools": (lambda: asking(tools=None), {"tool_required", "tool_of_two", "tool_named", "tool_single"}),
    "wrong usage": (lambda: telling(miscount), {"one_end", "prompt_bound", "cached_tokens"}),
    "halves": (lambda: telling(halve), {"whole_characters"}),
    "names again": (lambda: telling(call_again), {"tool_required"}),
    "no arguments": (lambda: telling(call_wrongly), {"tool_required", "tool_named"}),
    "too sure": (lambda: telling(be_certain), {"logprobs", "logprobs_spell", "logprobs_greedy"}),
    "no sum": (lambda: telling(forget_sum), {"confidence"}),
    "no errors": (lambda: telling(stop_politely), {"context_length", "form_refused"}),
    "deaf": (lambda: Deaf(), {"cancel", "cancel_early", "cancel_by_reader", "cancel_frees_place", "tool_cancel"}),
    "lazy": (lambda: Lazy(), {"cancel", "cancel_early", "tool_cancel"}),
    "miscounting": (lambda: Miscounting(), {"token_counts", "prompt_bound", "answer_count", "stats"}),
    "vectors of places": (
        lambda: Embedding(),
        {"embed_unit", "embed_same", "embed_order", "embed_meaning", "embed_truncated"},
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_fails_the_cases_that_are_about_it(fault: str) -> None:
    make, about = FAULTS[fault]
    engine = make()
    await engine.start()
    cases = [case for case in CASES if case.name in about]
    assert {case.name for case in cases} == about
    subject = Subject(engine=engine, entry=ENTRY, deterministic=True, patience_s=0.5)
    results = await run_suite(subject, cases=cases)
    await engine.close()
    assert {result.case.name: result.outcome for result in results} == dict.fromkeys(about, Outcome.FAILED)
    assert all(result.reason for result in results)


async def test_a_case_is_skipped_for_want_of_a_capability_and_says_which() -> None:
    engine = SyntheticEngine(ENTRY.model_copy(update={"engine_options": {"tokens_per_second": 0, "lacks": ["tools"]}}))
    await engine.start()
    heard: list[CaseResult] = []
    cases = [case for case in CASES if case.name in ("one_end", "tool_auto")]
    results = await run_suite(Subject(engine=engine, entry=ENTRY), cases=cases, on_result=heard.append)
    await engine.close()
    assert [(result.outcome, result.reason) for result in results] == [
        (Outcome.PASSED, ""),
        (Outcome.SKIPPED, "the engine has no tools"),
    ]
    assert heard == results


@pytest.mark.parametrize(
    ("declared", "skipped", "why"),
    [
        (
            {"continues": False},
            {
                *("continue_tokens", "continue_text", "continue_anywhere", "continue_stops", "continue_logprobs"),
                "max_output_continued",
            },
            "does not continue answers",
        ),
        ({"gives_token_ids": False}, {"bias_forces", "bias_bans"}, "no id of a token is known here"),
        ({"gives_token_ids": False, "known_token": (1, "x")}, set(), ""),
        ({"context_is_small": False}, {"context_is_filled"}, "the context of 512 tokens"),
        ({"counts_tokens": False}, {"answer_count"}, "are estimated"),
    ],
)
async def test_a_case_is_skipped_for_what_was_declared_and_for_nothing_else(
    declared: dict[str, Any], skipped: set[str], why: str
) -> None:
    # An engine that fails everything: what was not declared is a failure.
    engine = Faulty(delta=lambda delta: Delta(delta.generation_id, "", [], 0, End(FinishReason.CANCELLED)))
    await engine.start()
    chats = [case for case in CASES if Capability.CHAT in case.requires]
    subject = Subject(engine=engine, entry=ENTRY, deterministic=True, patience_s=0.5, **declared)
    results = await run_suite(subject, cases=chats)
    await engine.close()
    left_out = {result.case.name: result.reason for result in results if result.outcome is Outcome.SKIPPED}
    assert set(left_out) == skipped
    assert all(why in reason for reason in left_out.values())
    about = ("bias", "max_output", "continue_text", "continue_stops", "context_length", "answer_count")
    others = [result for result in results if result.case.name.startswith(about) and result.case.name not in skipped]
    assert {result.outcome for result in others} == {Outcome.FAILED}


def test_cases_have_names_of_their_own() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    assert all(case.shows for case in CASES)
