"""The outbox: everything comes out once and in order, and nobody waits while something is there."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.mux import Outbox, OutboxClosed

steps = st.lists(st.sampled_from(["put", "yield", "take"]), max_size=60)


@given(steps)
def test_all_comes_out_once_and_in_order(steps: list[str]) -> None:
    async def run() -> None:
        outbox: Outbox[int] = Outbox()
        batches: list[list[int]] = []
        taken: list[int] = []
        sent: list[int] = []

        async def write() -> None:
            while True:
                batch = await outbox.drain()
                batches.append(batch)
                taken.extend(batch)

        writer = asyncio.create_task(write())
        for step in steps:
            if step == "put":
                sent.append(len(sent))
                outbox.put(sent[-1])
            elif step == "yield":
                # Long enough for a waiting writer to be woken and to run.
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                assert taken == sent
                assert len(outbox) == 0
            else:
                taken.extend(outbox.take())
        outbox.close()
        outbox.put(-1)
        with pytest.raises(OutboxClosed):
            await writer
        assert taken == sent
        assert all(batches)

    asyncio.run(run())


@given(st.integers(1, 50))
def test_what_gathers_comes_out_as_one(count: int) -> None:
    async def run() -> None:
        outbox: Outbox[int] = Outbox()
        for n in range(count):
            outbox.put(n)
        assert await outbox.drain() == list(range(count))

    asyncio.run(run())


async def test_a_writer_that_is_cancelled_loses_nothing() -> None:
    outbox: Outbox[int] = Outbox()
    writer = asyncio.create_task(outbox.drain())
    await asyncio.sleep(0)
    outbox.put(1)
    # Woken, but cancelled before it ran.
    writer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writer
    assert await outbox.drain() == [1]
