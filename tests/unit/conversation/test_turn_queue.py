"""Messages that wait for a conversation: one after another, as they came."""

from __future__ import annotations

import asyncio

from services.conversation.turn_queue import TurnQueue


async def test_they_come_in_their_order() -> None:
    queue = TurnQueue()
    order: list[int] = []

    async def wait(number: int, *, lookups: int) -> None:
        with queue.place("conversation") as first:
            # Whatever is done meanwhile, and however long it takes, the place is kept.
            for _ in range(lookups):
                await asyncio.sleep(0)
            await first.wait()
            order.append(number)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for number, lookups in enumerate([0, 5, 0, 3]):
            group.create_task(wait(number, lookups=lookups))
    assert order == [0, 1, 2, 3]


async def test_who_leaves_makes_room() -> None:
    queue = TurnQueue()
    with queue.place("conversation") as first:
        with queue.place("conversation") as second, queue.place("conversation") as third:
            assert (first.is_set(), second.is_set(), third.is_set()) == (True, False, False)
        with queue.place("conversation") as fourth:
            assert not fourth.is_set()
        with queue.place("another") as other:
            assert other.is_set()
    with queue.place("conversation") as again:
        assert again.is_set()


async def test_the_next_is_first_when_the_first_leaves() -> None:
    queue = TurnQueue()
    with queue.place("conversation"):
        place = queue.place("conversation")
        second = place.__enter__()
    assert second.is_set()
    place.__exit__(None, None, None)
