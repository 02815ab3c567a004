"""Every reader sees every event once, wherever it begins and however slow it is."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.conversation.chat_model import FinishReason, GeneratedPiece, TokenUsage
from services.conversation.generation_log import (
    Completed,
    Delta,
    Ended,
    Entry,
    Event,
    GenerationLog,
    LogMovedError,
    Notice,
    NoticeKind,
    Retracted,
    Written,
    merge,
)

RETRACTED = Retracted(0, 1, "", "test")
MORE: list[list[Event]] = [
    [Delta("a")],
    [Delta("bc")],
    [Delta("é😀d")],
    [Delta("")],
    [Notice(NoticeKind.OWNER_REPLACED)],
]
ENDED = Ended(FinishReason.STOP, TokenUsage())


def sealed(events: list[Event]) -> list[Entry]:
    return [Entry(seq, event) for seq, event in enumerate(events, 1)]


def test_text_that_gathered_is_one_event() -> None:
    entries = sealed([Delta("x"), Delta("a"), Delta("b"), RETRACTED, Delta("c")])
    seen = merge(entries[1:], before=entries[:1])
    assert seen == [Entry(3, Delta("ab")), Entry(4, RETRACTED), Entry(5, Delta("c"))]


def test_what_was_taken_back_is_shown_to_nobody_again() -> None:
    notice = Notice(NoticeKind.OWNER_REPLACED)
    gone = Retracted(2, 5, "[gone]", "test")
    entries = sealed([Delta("1 ha"), notice, Delta("rm 2 "), gone, Delta("3"), Completed(None)])
    assert merge(entries) == [
        Entry(1, Delta("1 [gone]")),
        Entry(2, notice),
        Entry(5, Delta("m 2 3")),
        Entry(6, Completed(None)),
    ]
    # Who has a part of it is told; and the position is that of the last event.
    assert merge(entries[2:4], before=entries[:2]) == [Entry(3, Delta("rm 2 ")), Entry(4, gone)]
    assert merge(entries[:4])[-1] == Entry(4, Delta("m 2 "))


def test_what_is_not_for_clients_is_passed_over() -> None:
    entries = sealed([Delta("a"), Delta("", Written((GeneratedPiece("gone"),), 1)), ENDED, Completed(None)])
    assert merge(entries) == [Entry(1, Delta("a")), Entry(4, Completed(None))]
    assert merge(entries[1:3]) == []


@given(data=st.data())
def test_reading_in_parts_gives_the_same_as_reading_at_once(data: st.DataObject) -> None:
    events: list[Event] = []
    length = 0
    for _ in range(data.draw(st.integers(0, 20))):
        if length and data.draw(st.booleans()):
            start = data.draw(st.integers(0, length - 1))
            end = data.draw(st.integers(start + 1, length))
            retracted = Retracted(start, end, data.draw(st.sampled_from(["", "R", "😀😀"])), "test")
            length += len(retracted.replacement) - end + start
            events.append(retracted)
        else:
            events += data.draw(st.sampled_from(MORE))
            length += len(shown(sealed(events[-1:])))
    entries = sealed(events)
    assert not any(isinstance(entry.event, Retracted) for entry in merge(entries))

    seq = 0
    parts: list[Entry] = []
    for cut in [*sorted(data.draw(st.lists(st.integers(0, 20), max_size=5))), len(events)]:
        seen = merge(entries[seq : max(seq, cut)], before=entries[:seq])
        parts += seen
        seq = seen[-1].seq if seen else seq
    assert shown(parts) == shown(merge(entries)) == shown(entries)


def shown(entries: list[Entry]) -> str:
    """What a client shows after these events."""
    text = ""
    for entry in entries:
        match entry.event:
            case Delta(more):
                text += more
            case Retracted(start, end, replacement):
                text = text[:start] + replacement + text[end:]
    return text


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


async def test_positions_that_are_left_free() -> None:
    """Somebody may have seen events there; who did must still get those that follow."""
    log = GenerationLog("g", epoch=2, entries=[Entry(1, Delta("a"))])
    log.skip(100)
    assert log.end_seq == 102
    log.append(Delta("b"))
    assert log.end_seq == 103
    log.append(Completed(None))
    assert log.end_seq == 103
    assert [entry.seq for entry in log.entries] == [1, 102, 103]
    assert await log.read(50) == [Entry(102, Delta("b"), 2), Entry(103, Completed(None), 2)]


async def test_what_was_not_published_when_the_log_moved_never_is() -> None:
    log = GenerationLog("g", on_append=lambda log: None)
    log.append(Delta("a"))
    log.seal()
    log.publish(1)
    log.append(Delta("b"))
    log.seal()
    log.append(Delta("c"))
    assert await log.read(0) == [Entry(1, Delta("a"))]
    waiting = asyncio.create_task(log.read(1))
    await asyncio.sleep(0)
    log.move()
    with pytest.raises(LogMovedError):
        await waiting
    log.append(Delta("d"))
    assert [entry.event for entry in log.entries] == [Delta("a")]
    assert await log.read(0) == [Entry(1, Delta("a"))]


async def test_entries_that_come_again_are_passed_over() -> None:
    """As when Redis had lost the stream and its owner has stored all of it anew."""
    log = GenerationLog("g")
    entries = [Entry(1, Delta("a")), Entry(2, Delta("b")), Entry(4, Completed(None))]
    log.extend(entries[:2])
    log.extend(entries)
    assert list(log.entries) == entries
    assert await log.read(4) == []


async def test_a_reader_that_leaves_is_not_kept() -> None:
    log = GenerationLog("g")
    staying = asyncio.create_task(log.read(0))
    leaving = [asyncio.create_task(log.read(0)) for _ in range(3)]
    await asyncio.sleep(0)
    for task in leaving:
        task.cancel()
    await asyncio.wait(leaving)
    assert len(log._waiters) == 1
    log.append(Completed(None))
    assert await staying == [Entry(1, Completed(None))]
