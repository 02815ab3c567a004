from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, date, datetime

from services.usage.model import DailyUsage, UsageRecord
from services.usage.store import UsageStore

RECORD = UsageRecord(
    generation_id="g1",
    user_id="ann",
    conversation_id="c1",
    model="small",
    tier="free",
    prompt_tokens=10,
    completion_tokens=5,
    cached_tokens=2,
    finish_reason="stop",
    ended_at=datetime(2026, 3, 4, 12, 0, tzinfo=UTC),
)


async def test_a_generation_is_stored_once(store: UsageStore) -> None:
    assert await store.record([RECORD, replace(RECORD, generation_id="g2")]) == {"g1", "g2"}
    assert await store.record([replace(RECORD, prompt_tokens=99), replace(RECORD, generation_id="g3")]) == {"g3"}
    assert await store.day("ann", date(2026, 3, 4)) == {"g1": 15, "g2": 15, "g3": 15}


async def test_concurrent_calls_store_once(store: UsageStore) -> None:
    records = [replace(RECORD, generation_id=f"g{number}") for number in range(20)]
    results = await asyncio.gather(*(store.record(records) for _ in range(5)))
    assert sum(len(new) for new in results) == 20


async def test_a_thousand_at_once(store: UsageStore) -> None:
    records = [replace(RECORD, generation_id=f"g{number}") for number in range(1000)]
    assert len(await store.record(records)) == 1000


async def test_days_and_users_are_apart(store: UsageStore) -> None:
    await store.record(
        [
            RECORD,
            replace(RECORD, generation_id="late", ended_at=datetime(2026, 3, 4, 23, 59, 59, tzinfo=UTC)),
            replace(RECORD, generation_id="next", ended_at=datetime(2026, 3, 5, 0, 0, tzinfo=UTC), model="large"),
            replace(RECORD, generation_id="other", user_id="bob"),
            replace(RECORD, generation_id="old", ended_at=datetime(2026, 1, 1, tzinfo=UTC)),
        ]
    )
    assert set(await store.day("ann", date(2026, 3, 4))) == {"g1", "late"}
    assert await store.daily("ann", since=date(2026, 3, 1)) == [
        DailyUsage(date(2026, 3, 5), "large", 1, 10, 5),
        DailyUsage(date(2026, 3, 4), "small", 2, 20, 10),
    ]
