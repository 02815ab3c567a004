"""Every reader sees every event once, wherever it begins and however slow it is."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.conversation.generation_log import Completed, Delta, Entry, Event, GenerationLog, Retracted, merge

RETRACTED = Retracted(0, 1, "", "test")


def test_text_that_gathered_is_one_event() -> None:
    events: list[Event] = [Delta("a"), Delta("b"), RETRACTED, Delta("c")]
    assert merge(events, 4) == [Entry(6, Delta("ab")), Entry(7, RETRACTED), Entry(8, Delta("c"))]


@given(
    events=st.lists(st.sampled_from([Delta("a"), Delta("b"), RETRACTED]), max_size=20),
    cuts=st.lists(st.integers(0, 20), max_size=5),
)
def test_reading_in_parts_gives_the_same_as_reading_at_once(events: list[Event], cuts: list[int]) -> None:
    def text(entries: list[Entry]) -> str:
        return "".join(e.event.text if isinstance(e.event, Delta) else "|" for e in entries)

    seq = 0
    parts: list[Entry] = []
    for cut in [*sorted(cuts), len(events)]:
        seen = merge(events[seq : max(seq, cut)], seq)
        parts += seen
        seq = seen[-1].seq if seen else seq
    assert text(parts) == text(merge(events, 0))
    assert seq == len(events)


async def test_a_reader_that_waits_is_woken_and_one_that_comes_late_misses_nothing() -> None:
    log = GenerationLog("g")
    waiting = asyncio.create_task(log.read(0))
    await asyncio.sleep(0)
    log.append(Delta("a"))
    assert await waiting == [Entry(1, Delta("a"))]
    log.append(Completed(None))
    assert await log.read(0) == [Entry(1, Delta("a")), Entry(2, Completed(None))]
    assert await log.read(2) == []


def test_nothing_follows_the_end() -> None:
    log = GenerationLog("g")
    log.append(Completed(None))
    with pytest.raises(ValueError, match="has ended"):
        log.append(Delta("a"))
