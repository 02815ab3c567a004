"""The prefix cache of the synthetic engine, and the time that it saves."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from services.inference.engines.synthetic import SyntheticEngine
from services.inference.engines.synthetic_cache import PrefixCache, prefixes
from services.inference.engines.synthetic_options import SyntheticOptions
from services.inference.engines.synthetic_pace import Pace
from services.inference.model import Delta, End, GenerationRequest, Message, Role, Sampling, Tool, ToolMode, ToolOptions
from services.runtime.model_registry import ModelEntry

SYSTEM = Message(Role.SYSTEM, "Be brief. " * 10)


def user(text: str) -> Message:
    return Message(Role.USER, text)


async def ask(engine: SyntheticEngine, *messages: Message) -> End:
    done: asyncio.Future[End] = asyncio.get_running_loop().create_future()
    engine.submit(
        GenerationRequest(0, "g", "synthetic", messages),
        lambda delta: done.set_result(delta.end) if delta.end is not None else None,
    )
    return await done


def engine(**options: Any) -> SyntheticEngine:
    return SyntheticEngine(
        ModelEntry(
            name="synthetic",
            engine="synthetic",
            context_length=2000,
            max_output_tokens=1000,
            engine_options={"tokens_per_second": 0, "answer": "An answer.", **options},
        )
    )


async def test_the_next_turn_and_a_fork_find_what_they_share() -> None:
    one = engine()
    first = await ask(one, SYSTEM, user("Hello"))
    assert first.usage.cached_tokens == 0
    answer = Message(Role.ASSISTANT, "An answer.")
    second = await ask(one, SYSTEM, user("Hello"), answer, user("And now?"))
    shared = first.usage.prompt_tokens + first.usage.completion_tokens
    # All but what the template adds once per prompt, and what it adds to the answer as a message.
    assert second.usage.cached_tokens == shared - 3 + 4
    fork = await ask(one, SYSTEM, user("Good day"))
    assert 0 < fork.usage.cached_tokens < first.usage.prompt_tokens
    stranger = await ask(one, user("Hello"))
    assert stranger.usage.cached_tokens == 0
    assert 0 < one.stats().kv_cache_hit_rate < 1
    assert one.stats().kv_cache_usage > 0


def test_it_keeps_what_was_used_last_and_never_more_than_it_has_room_for() -> None:
    cache = PrefixCache(60)
    chats = [prefixes([user(f"word number {n} of some more words")]) for n in range(20)]
    for chat in chats:
        cache.look_up(chat)
        cache.look_up(chats[0])
        assert cache.stats().kv_cache_usage <= 1
    assert cache.look_up(chats[0]) > 0
    assert cache.look_up(chats[1]) == 0


def test_the_start_of_a_chat_outlives_its_end() -> None:
    chat = prefixes([user("word " * 10), user("word " * 10), user("word " * 10)])
    cache = PrefixCache(sum(prefix.tokens for prefix in chat))
    cache.look_up(chat)
    cache.look_up(prefixes([user("other")]))
    assert cache.look_up(chat) == chat[0].tokens + chat[1].tokens


def test_prompt_tokens_that_are_not_cached_take_their_time() -> None:
    pace = Pace(SyntheticOptions(time_to_first_token_ms=50, prefill_tokens_per_second=1000))
    assert pace.first_token_s(0, uncached_tokens=200) == pytest.approx(0.25)
    assert pace.first_token_s(0, uncached_tokens=0) == pytest.approx(0.05)


def test_a_file_makes_it_slower_while_it_runs(tmp_path: Path) -> None:
    file = tmp_path / "slow"
    pace = Pace(SyntheticOptions(tokens_per_second=100, time_to_first_token_ms=50, slow_file=file))
    assert pace.step_s(0) == pytest.approx(0.01)
    file.write_text("10")
    assert pace.step_s(0.5) == pytest.approx(0.01), "it looks once per second"
    assert pace.step_s(1.5) == pytest.approx(0.1)
    assert pace.first_token_s(1.6, uncached_tokens=0) == pytest.approx(0.5)
    for unreadable in ("", "nan", "-1", "fast"):
        file.write_text(unreadable)
        assert pace.step_s(float("inf")) == pytest.approx(0.01)
        pace = Pace(SyntheticOptions(tokens_per_second=100, slow_file=file))
    file.unlink()
    assert pace.step_s(1e9) == pytest.approx(0.01)


async def test_it_is_as_sure_as_it_is_told() -> None:
    sums: list[float] = []
    counts = 0
    one = engine(answer="", answer_tokens=400, mean_logprob=-1.5)
    done = asyncio.Event()

    def sink(delta: Delta) -> None:
        nonlocal counts
        counts += delta.token_count
        if delta.logprob_sum is not None:
            sums.append(delta.logprob_sum)
        if delta.end is not None:
            done.set()

    one.submit(GenerationRequest(0, "g", "synthetic", (user("Hello"),), Sampling(), confidence=True), sink)
    await done.wait()
    assert counts == 400
    assert sum(sums) / counts == pytest.approx(-1.5, rel=0.02)


async def test_it_calls_the_tools_that_the_user_names() -> None:
    tools = (Tool("get_weather"), Tool("switch_light", parameters='{"properties": {"on": {"const": true}}}'))

    async def called(text: str, **options: Any) -> dict[str, str]:
        calls: dict[str, str] = {}
        names: dict[int, str] = {}
        done = asyncio.Event()

        def sink(delta: Delta) -> None:
            for call in delta.tool_calls:
                names.setdefault(call.index, call.name)
                calls[names[call.index]] = calls.get(names[call.index], "") + call.arguments
            if delta.end is not None:
                done.set()

        request = GenerationRequest(0, "g", "synthetic", (user(text),), tools=ToolOptions(tools, **options))
        engine().submit(request, sink)
        await done.wait()
        return calls

    assert await called("Hello") == {}
    assert await called("Please use switch_light.") == {"switch_light": '{"on": true}'}
    assert set(await called("get_weather, then switch_light")) == {"get_weather", "switch_light"}
    assert set(await called("get_weather, then switch_light", single_call=True)) == {"get_weather"}
    assert set(await called("Hello", mode=ToolMode.REQUIRED)) == {"get_weather"}
    assert set(await called("Hello", mode=ToolMode.REQUIRED, function="switch_light")) == {"switch_light"}


class _Sink:
    def __init__(self) -> None:
        self.tokens = 0
        self.ended = asyncio.Event()

    def __call__(self, delta: Delta) -> None:
        self.tokens += delta.token_count
        if delta.end is not None:
            self.ended.set()


def start(one: SyntheticEngine, text: str, *, key: int) -> _Sink:
    sink = _Sink()
    one.submit(GenerationRequest(key, "g", "synthetic", (user(text),)), sink)
    return sink


async def test_a_cached_prompt_overtakes_one_that_must_be_computed() -> None:
    one = engine(prefill_tokens_per_second=20, time_to_first_token_ms=1)
    known, other = "known words " * 500, "other words " * 500
    start(one, known, key=0)
    one.cancel(0)
    computed = start(one, other, key=1)
    cached = start(one, known, key=2)
    await cached.ended.wait()
    assert cached.tokens > 0
    assert computed.tokens == 0, "its thousand tokens take a minute"
    await one.close()


async def test_a_slow_engine_is_overtaken(tmp_path: Path) -> None:
    file = tmp_path / "slow"
    file.write_text("100000")
    paced = {"tokens_per_second": 100, "time_to_first_token_ms": 1}
    slow, usual = engine(slow_file=str(file), **paced), engine(**paced)
    late = start(slow, "Hello", key=0)
    await start(usual, "Hello", key=0).ended.wait()
    assert late.tokens == 0
    await slow.close()
    await usual.close()
