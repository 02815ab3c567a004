from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from services.usage.counters import Counters
from services.usage.model import RateLimit, RateQuery, RateStanding
from services.usage.rate_counters import RateCounters

SLOW = RateLimit("slow", 1, 5)
"""Five at once, then one a minute: whatever a test takes, none comes back meanwhile."""
FAST = RateLimit("fast", 60_000, 3)
"""Three at once, then one each millisecond."""


@pytest.fixture
def rates(counters: Counters) -> RateCounters:
    return RateCounters(counters=counters)


async def take(rates: RateCounters, key: str, limit: RateLimit = SLOW, hits: int = 1) -> RateStanding:
    (standing,) = await rates.take([RateQuery(key, limit, hits)])
    return standing


async def test_a_burst_passes_and_no_more(rates: RateCounters) -> None:
    standings = [await take(rates, "ann") for _ in range(7)]
    assert [standing.allowed for standing in standings] == [True] * 5 + [False] * 2
    assert [standing.remaining for standing in standings] == [4, 3, 2, 1, 0, 0, 0]
    assert standings[0].retry_s == 0
    assert 55 < standings[-1].retry_s <= 60
    assert 290 < standings[-1].reset_s <= 300


async def test_replicas_and_parallel_requests_share_the_counter(rates: RateCounters) -> None:
    standings = await asyncio.gather(*(take(rates, "ann") for _ in range(50)))
    assert sum(standing.allowed for standing in standings) == 5


async def test_users_are_apart(rates: RateCounters) -> None:
    for _ in range(6):
        await take(rates, "ann")
    assert (await take(rates, "bob")).allowed


async def test_what_was_refused_comes_back_after_the_time_it_was_told(rates: RateCounters) -> None:
    limit = RateLimit("quick", 600, 2)
    while (standing := await take(rates, "ann", limit)).allowed:
        pass
    assert 0 < standing.retry_s <= 0.1
    await asyncio.sleep(standing.retry_s)
    assert (await take(rates, "ann", limit)).allowed


async def test_hits_count_as_that_many(rates: RateCounters) -> None:
    assert (await take(rates, "ann", hits=4)).remaining == 1
    assert not (await take(rates, "ann", hits=2)).allowed
    assert (await take(rates, "ann", hits=1)).allowed


async def test_all_limits_count_or_none(rates: RateCounters) -> None:
    one, two = RateQuery("one", SLOW, 1), RateQuery("two", RateLimit("tight", 1, 1), 1)
    first = await rates.take([one, two])
    assert [standing.allowed for standing in first] == [True, True]
    second = await rates.take([one, two])
    assert [standing.allowed for standing in second] == [True, False]
    assert (await take(rates, "one")).remaining == 3


async def test_keys_go_when_all_is_free_again(rates: RateCounters, redis: Redis) -> None:
    await take(rates, "ann", FAST)
    await take(rates, "bob", SLOW)
    (bob,) = await redis.keys("*bob")
    assert 55_000 < await redis.pttl(bob) <= 60_001
    deadline = asyncio.get_running_loop().time() + 5
    while await redis.exists("chatmesh:rate:ann"):
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.005)
