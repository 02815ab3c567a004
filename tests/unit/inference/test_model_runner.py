"""One model and what runs on it: no slot is lost whatever happens, and what is said of it is right."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import NoOpTracerProvider

from services.inference.instruments import Instruments
from services.inference.model import (
    Capability,
    Delta,
    Embeddings,
    End,
    EngineStats,
    FinishReason,
    GenerationRequest,
    Message,
    Priority,
    Role,
    Sink,
    TokenCounts,
)
from services.inference.model_runner import ModelRunner
from services.inference.slots import Slots
from services.runtime.errors import DomainError, Reason
from services.runtime.model_registry import ModelEntry
from services.runtime.settings import SettingsError
from services.runtime.telemetry import Telemetry

CAN = frozenset({Capability.CHAT, Capability.EMBEDDINGS, Capability.LOGPROBS})


class HeldClock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.at = 100.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.at, UTC)

    def monotonic(self) -> float:
        return self.at


class HandEngine:
    """Does with a generation what the test says, when it says so."""

    def __init__(self, capabilities: frozenset[Capability] = CAN) -> None:
        self.capabilities = capabilities
        self.running: dict[int, tuple[GenerationRequest, Sink]] = {}
        self.at_once: End | None = None
        """How every generation ends as soon as it is submitted."""
        self.raises: Exception | None = None
        self.most = 0
        self.embedded: list[Sequence[str]] = []
        self.may_embed = asyncio.Event()
        self.may_embed.set()

    async def start(self) -> None: ...

    def submit(self, request: GenerationRequest, sink: Sink) -> None:
        if self.raises is not None:
            raise self.raises
        self.running[request.key] = (request, sink)
        self.most = max(self.most, len(self.running))
        if request.generation_id == "warm-up":
            self.end(request.key)
        elif self.at_once is not None:
            self.end(request.key, self.at_once)

    def token(self, key: int) -> None:
        request, sink = self.running[key]
        sink(Delta(request.generation_id, "a", [1], 1))

    def end(self, key: int, end: End | None = None) -> None:
        request, sink = self.running.pop(key)
        sink(Delta(request.generation_id, "", [], 0, end or End(FinishReason.STOP)))

    def cancel(self, key: int) -> None:
        if key in self.running:
            self.end(key, End(FinishReason.CANCELLED))

    async def count_tokens(self, texts: Sequence[str]) -> TokenCounts:
        return TokenCounts(tuple(map(len, texts)), 0, 0)

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        self.embedded.append(list(texts))
        await self.may_embed.wait()
        if self.raises is not None:
            raise self.raises
        return Embeddings([[1.0]] * len(texts), prompt_tokens=len(texts))

    def stats(self) -> EngineStats:
        return EngineStats(kv_cache_usage=0.25, kv_cache_hit_rate=0.5)

    async def check(self) -> None: ...

    async def close(self) -> None: ...


class Bench:
    """A runner on a scripted engine."""

    def __init__(
        self,
        *,
        slots: int = 1,
        queue_limit: int = 5,
        timeout_s: float = 1000.0,
        able: frozenset[Capability] = CAN,
        entry: dict[str, Any] | None = None,
    ) -> None:
        self.clock = HeldClock()
        self.engine = HandEngine(able)
        self._changes = asyncio.Event()
        self.ends: dict[int, End] = {}
        instruments = Instruments(
            Telemetry(
                tracer=NoOpTracerProvider().get_tracer("test"),
                meter=NoOpMeterProvider().get_meter("test"),
                metrics_address="",
            )
        )
        self.runner = ModelRunner(
            entry=ModelEntry.model_validate(
                {"name": "m", "engine": "synthetic", "context_length": 100, "max_output_tokens": 50, "slots": slots}
                | (entry or {})
            ),
            engine=self.engine,
            slots=Slots(
                model="m",
                slots=slots,
                queue_limit=queue_limit,
                queue_timeout_s=timeout_s,
                oldest_every=4,
                clock=self.clock,
                on_refused=lambda refusal, priority: None,
            ),
            clock=self.clock,
            instruments=instruments,
            on_change=self._changes.set,
        )

    async def started(self) -> Bench:
        await self.runner.start(0)
        return self

    def submit(self, key: int, **options: Any) -> None:
        request = GenerationRequest(
            key=key, generation_id=f"g{key}", model="m", messages=(Message(Role.USER, "Hello"),), **options
        )

        def sink(delta: Delta) -> None:
            if delta.end is not None:
                assert key not in self.ends, "it ended twice"
                self.ends[key] = delta.end

        self.runner.submit(request, sink)

    def reason(self, key: int) -> Reason:
        error = self.ends[key].error
        assert error is not None
        return error.reason

    async def until_ended(self, key: int) -> None:
        while key not in self.ends:
            self._changes.clear()
            await self._changes.wait()


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["submit", "submit", "submit", "end", "fail", "cancel", "wait", "embed", "leave", "drain"]),
        st.sampled_from(Priority),
        st.integers(0, 20),
        st.booleans(),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 3), st.integers(0, 4), OPERATIONS)
def test_no_slot_leaks(slots: int, limit: int, operations: list[tuple[str, Priority, int, bool]]) -> None:
    async def run() -> None:
        bench = await Bench(slots=slots, queue_limit=limit).started()
        submitted: set[int] = set()
        embeddings: list[asyncio.Task[Embeddings]] = []
        for key, (what, priority, pick, flag) in enumerate(operations, start=1):
            running = list(bench.engine.running)
            bench.engine.raises = None
            bench.engine.at_once = End(FinishReason.LENGTH) if what == "submit" and pick == 0 else None
            if what == "submit":
                bench.engine.raises = RuntimeError("broken") if pick == 1 else None
                # A full queue refuses; that is no leak.
                with suppress(DomainError):
                    bench.submit(key, priority=priority, queue_timeout_s=float(pick))
                    submitted.add(key)
            elif what == "embed":
                bench.engine.may_embed.set() if flag else bench.engine.may_embed.clear()
                embeddings.append(asyncio.create_task(bench.runner.embed(key, ["text"], priority)))
            elif what == "leave" and embeddings:
                embeddings[pick % len(embeddings)].cancel()
            elif what in ("end", "fail") and running:
                failure = DomainError(Reason.ENGINE_FAILED, "broken")
                bench.engine.end(
                    running[pick % len(running)], End(FinishReason.ERROR, error=failure) if what == "fail" else None
                )
            elif what == "cancel" and submitted:
                bench.runner.cancel(sorted(submitted)[pick % len(submitted)])
            elif what == "wait":
                bench.clock.at += pick
            elif what == "drain":
                bench.runner.refuse_waiting(DomainError(Reason.DRAINING, "gone"))
            if flag:
                await asyncio.sleep(0)
            load = bench.runner.load()
            assert load.running <= slots
            assert load.queued == sum(waiting.queued for waiting in load.waiting)
            assert not load.queued or load.running == slots, "a free slot while somebody waits"
        bench.engine.raises = None
        bench.engine.may_embed.set()
        for _ in range(len(operations) + 1):
            await asyncio.sleep(0)
            for key in list(bench.engine.running):
                bench.engine.end(key)
        await asyncio.gather(*embeddings, return_exceptions=True)
        assert bench.runner.idle, "a slot is lost"
        assert set(bench.ends) == submitted, "one is lost"
        assert bench.engine.most <= slots
        await bench.runner.close()

    asyncio.run(run())


async def test_a_long_queue_of_what_ends_at_once_does_not_nest() -> None:
    bench = await Bench(queue_limit=5000).started()
    bench.submit(1)
    for key in range(2, 5000):
        bench.submit(key)
    bench.engine.at_once = End(FinishReason.STOP)
    bench.engine.end(1)
    assert len(bench.ends) == 4999
    assert bench.runner.idle


async def test_one_timer_ends_each_wait_in_its_time() -> None:
    bench = await Bench(timeout_s=0.05).started()
    bench.submit(1)
    bench.submit(2, queue_timeout_s=600.0)
    bench.submit(3)
    bench.submit(4, queue_timeout_s=0.01)
    bench.clock.at += 0.02
    async with asyncio.timeout(30):
        await bench.until_ended(4)
        assert set(bench.ends) == {4}
        bench.clock.at += 0.04
        await bench.until_ended(3)
    assert set(bench.ends) == {3, 4}
    assert bench.reason(3) is bench.reason(4) is Reason.OVERLOADED
    error = bench.ends[4].error
    assert error is not None
    assert error.retry_after_s is not None
    assert bench.ends[4].queue_ms == pytest.approx(20)
    bench.engine.end(1)
    assert list(bench.engine.running) == [2]
    await bench.runner.close()


async def test_times_and_counters() -> None:
    bench = await Bench().started()
    bench.submit(1, priority=Priority.HIGH)
    bench.submit(2, priority=Priority.LOW)
    bench.clock.at += 4.0
    bench.engine.token(1)
    bench.engine.end(1)
    bench.clock.at += 1.0
    bench.engine.token(2)
    load = bench.runner.load()
    # Of the first one 4 s and none of it a wait; of the second 5 s, 4 of them a wait, counted by a fifth.
    assert load.time_to_first_token_ms == pytest.approx(4200)
    assert load.queue_wait_ms == pytest.approx(800)
    assert [(waiting.priority, waiting.wait_ms) for waiting in load.waiting] == [
        (Priority.HIGH, 0.0),
        (Priority.LOW, pytest.approx(4000)),
    ]
    assert (load.kv_cache_usage, load.kv_cache_hit_rate, load.capabilities) == (0.25, 0.5, CAN)
    bench.submit(3)
    bench.engine.end(2, End(FinishReason.ERROR, error=DomainError(Reason.ENGINE_FAILED, "broken")))
    assert bench.ends[2].queue_ms == pytest.approx(4000)
    assert bench.ends[2].first_token_ms == pytest.approx(5000)
    bench.engine.end(3, End(FinishReason.ERROR, error=DomainError(Reason.CONTEXT_LENGTH_EXCEEDED, "long")))
    assert bench.ends[3].first_token_ms == 0
    bench.submit(4)
    bench.submit(5)
    bench.runner.cancel(5)
    bench.runner.cancel(4)
    assert bench.ends[4].finish_reason is bench.ends[5].finish_reason is FinishReason.CANCELLED
    load = bench.runner.load()
    assert (load.completed, load.failed) == (3, 1)


async def test_an_engine_that_raises_fails_the_generation_and_keeps_no_slot() -> None:
    bench = await Bench().started()
    bench.engine.raises = RuntimeError("secret words")
    bench.submit(1)
    assert bench.reason(1) is Reason.ENGINE_FAILED
    assert bench.runner.idle
    assert bench.runner.load().failed == 1


async def test_embeddings_wait_for_a_slot_as_all_others() -> None:
    bench = await Bench(queue_limit=1).started()
    bench.submit(1)
    waiting = asyncio.create_task(bench.runner.embed(2, ["text"], Priority.NORMAL))
    await asyncio.sleep(0)
    assert bench.runner.load().queued == 1
    with pytest.raises(DomainError) as caught:
        await bench.runner.embed(3, ["text"], Priority.NORMAL)
    assert caught.value.reason is Reason.OVERLOADED
    assert not bench.engine.embedded
    bench.engine.end(1)
    assert (await waiting).vectors == [[1.0]]
    assert bench.runner.idle
    bench.engine.raises = DomainError(Reason.ENGINE_FAILED, "broken")
    with pytest.raises(DomainError):
        await bench.runner.embed(4, ["text"], Priority.NORMAL)
    assert (bench.runner.load().completed, bench.runner.load().failed, bench.runner.idle) == (2, 1, True)


@pytest.mark.parametrize("runs", [True, False])
async def test_an_embedding_that_is_cancelled_has_ended_well(runs: bool) -> None:
    bench = await Bench().started()
    bench.engine.may_embed.clear()
    if not runs:
        bench.submit(1)
    waiting = asyncio.create_task(bench.runner.embed(2, ["text"], Priority.NORMAL))
    await asyncio.sleep(0)
    assert bool(bench.engine.embedded) is runs
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert bench.runner.load().completed == 1
    assert bench.runner.load().queued == 0


async def test_what_the_file_leaves_out_it_cannot_do() -> None:
    bench = await Bench(entry={"capabilities": ["chat", "json"]}).started()
    assert bench.runner.capabilities == {Capability.CHAT}
    with pytest.raises(DomainError) as caught:
        await bench.runner.embed(1, ["text"], Priority.NORMAL)
    assert caught.value.reason is Reason.UNSUPPORTED_CAPABILITY
    with pytest.raises(SettingsError, match="neither chat nor embeddings"):
        await Bench(entry={"capabilities": ["json"]}).started()


async def test_an_engine_that_only_embeds_is_warmed_up_by_it() -> None:
    bench = await Bench(able=frozenset({Capability.EMBEDDINGS})).started()
    assert bench.engine.embedded == [["Hello"]]
    with pytest.raises(DomainError) as caught:
        bench.submit(1)
    assert caught.value.metadata["capability"] == "chat"


async def test_a_first_embedding_that_fails_is_an_end_that_says_what_to_do() -> None:
    bench = Bench(able=frozenset({Capability.EMBEDDINGS}))
    bench.engine.raises = DomainError(Reason.ENGINE_FAILED, "It broke.")
    with pytest.raises(SettingsError) as caught:
        await bench.started()
    said = str(caught.value)
    assert said.startswith("model m (engine synthetic): its first embedding failed: It broke. ")
    assert "`chatmesh engine check --model m`" in said


async def test_a_first_use_that_never_ends_is_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.inference.model_runner._WARM_UP_TIMEOUT_S", 0.01)
    bench = Bench(able=frozenset({Capability.EMBEDDINGS}))
    bench.engine.may_embed.clear()
    with pytest.raises(SettingsError, match="model m .engine synthetic.: its first embedding failed: It did not end"):
        await bench.started()
