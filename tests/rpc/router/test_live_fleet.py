"""The choice of a replica among real processes, judged by the receipts: who got how much, and what became of it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.rpc.inference.peer import eventually
from tests.rpc.router.conftest import RouterProcess
from tests.rpc.router.live import ANSWER_TOKENS, CALLERS, MODEL, Asked, Callers, LiveReplica, retried, sent

pytestmark = pytest.mark.timeout(240)

MODELS = f"models: [{{name: {MODEL}, engine: synthetic, context_length: 2000, max_output_tokens: 1500}}]"

StartFleet = Callable[..., Awaitable[tuple[list[LiveReplica], RouterProcess, Callers]]]


@pytest.fixture
def processes() -> Iterator[list[LiveReplica | RouterProcess]]:
    started: list[LiveReplica | RouterProcess] = []
    yield started
    for one in reversed(started):
        if isinstance(one, LiveReplica):
            one.process.stop()
        else:
            one.stop()


@pytest.fixture
async def start_fleet(tmp_path: Path, processes: list[LiveReplica | RouterProcess]) -> AsyncIterator[StartFleet]:
    """Start replicas of these slownesses, and a Router that knows all of them."""
    opened: list[Callers] = []

    async def start(*slowness: float, **options: Any) -> tuple[list[LiveReplica], RouterProcess, Callers]:
        replicas = []
        for number, slow in enumerate(slowness):
            # Only the first one has the options, which are about what is wrong with it.
            replica = LiveReplica(tmp_path, number, slowness=slow, **(options if number == 0 else {}))
            replicas.append(replica)
            processes.append(replica)
        file = tmp_path / "registry.yaml"
        file.write_text(MODELS)
        addresses = [await asyncio.to_thread(replica.process.address) for replica in replicas]
        router = RouterProcess({"CHATMESH_MODELS_FILE": str(file), "CHATMESH_INFERENCE_ADDRESSES": ",".join(addresses)})
        processes.append(router)
        callers = Callers(await asyncio.to_thread(router.listening))
        opened.append(callers)

        async def all_ready() -> bool:
            return await callers.ready() == len(replicas)

        await eventually(all_ready, "all replicas are ready")
        return replicas, router, callers

    yield start
    for callers in opened:
        await callers.close()


def share(answers: Sequence[Asked], *names: str) -> float:
    counted = sent(answers)
    return sum(counted[name] for name in names) / counted.total()


async def test_the_fast_get_more_and_one_that_slows_down_gets_less(start_fleet: StartFleet) -> None:
    replicas, _, callers = await start_fleet(1, 1, 2, 2, 4, 4)
    await callers.many(40)
    before = await callers.many(150)
    assert share(before, "r0", "r1") > 2 * share(before, "r4", "r5")
    assert retried(before) == 0
    replicas[0].slow_file.write_text("10")
    # What it is slow with must be seen before it can count.
    await callers.many(50)
    after = await callers.many(150)
    assert share(after, "r0") < share(before, "r0") / 3
    assert all(asked.tokens == ANSWER_TOKENS for asked in (*before, *after))


async def test_replicas_that_die_or_drain_cost_no_answer(start_fleet: StartFleet) -> None:
    replicas, router, callers = await start_fleet(1, 1, 1, 1, 1, 1, 1)
    await callers.many(50)
    asking = asyncio.create_task(callers.many(300))
    await asyncio.sleep(0)
    victim, *drained = replicas[:3]
    os.kill(victim.process.pid, signal.SIGKILL)
    await eventually(lambda: _true(router.logged("replica lost")), "the death is noticed")
    assert not asking.done()
    for replica in drained:
        replica.process.terminate()

    async def four_left() -> bool:
        return await callers.ready() == 4

    await eventually(four_left, "the drained ones are left out")
    during = await asking
    assert all(asked.tokens == ANSWER_TOKENS for asked in during)
    # Each caller can lose one answer to the death, and meet each of the drained ones once.
    assert retried(during) <= 3 * CALLERS
    after = await callers.many(100)
    assert set(sent(after)) == {replica.name for replica in replicas[3:]}
    assert retried(after) == 0
    for replica in drained:
        assert await asyncio.to_thread(replica.process.wait) == 0


async def test_a_failing_engine_is_left_alone_and_tried_again(start_fleet: StartFleet) -> None:
    """Idle as it looks, it would swallow whatever comes."""
    _, _, callers = await start_fleet(1, 1, 1, fail_after_tokens=8, fail_times=6)
    rules: list[str] = []
    failures = 0

    async def recovered() -> bool:
        nonlocal failures
        answers = await callers.many(20)
        failures += sum(receipt.replica_id == "r0" for asked in answers for receipt in asked.receipts[:-1])
        of_first = [
            receipt.rule.rpartition("/")[2]
            for asked in answers
            for receipt in asked.receipts
            if receipt.replica_id == "r0"
        ]
        rules.extend(of_first)
        return "breaker_probe" in rules and bool(of_first) and "breaker_probe" not in of_first

    await eventually(recovered, "it is used as before when its faults are over")
    assert failures == 6


async def test_turns_and_forks_go_where_their_beginning_is_cached(start_fleet: StartFleet) -> None:
    _, _, callers = await start_fleet(0.2, 0.2, 0.2, 0.2)
    said = {f"c{number}": [f"This is the story of number {number}."] for number in range(24)}
    first = {name: await callers.ask(*texts, conversation=name) for name, texts in said.items()}
    assert len({asked.replica for asked in first.values()}) == 4
    for turn in range(3):
        for name, texts in said.items():
            texts.append(f"And then, as turn {turn} of it, something else came to pass.")
            again = await callers.ask(*texts, conversation=name)
            assert again.replica == first[name].replica
            assert again.rule == "affinity"
            assert again.cached_tokens > 0
    fork = await callers.ask(*said["c3"], "Or did it?", keys=("fork", "c3"))
    assert fork.replica == first["c3"].replica
    assert fork.cached_tokens > 0


async def _true(value: object) -> bool:
    return bool(value)
