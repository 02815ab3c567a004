"""What the client holds after following every event is what is stored."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.conversation.chat_model import GeneratedPiece
from services.conversation.generation_log import Delta, Entry, GenerationLog, Replacement, Retracted, Written
from services.conversation.log_convert import entries_from_bytes, entries_to_bytes
from services.conversation.released_text import ReleasedText, shown_text


def follow(events: list[Delta | Retracted]) -> str:
    """The text that a client builds from events."""
    text = ""
    for event in events:
        match event:
            case Delta(more):
                text += more
            case Retracted(start, end, replacement, _):
                text = text[:start] + replacement + text[end:]
    return text


def test_clear_shows_up_to_the_watermark() -> None:
    released = ReleasedText()
    released.write("hello world")
    assert released.clear(5) == Delta("hello")
    assert released.clear(5) is None
    assert released.clear(11) == Delta(" world")
    assert released.shown == "hello world"


def test_a_range_that_was_not_shown_comes_replaced() -> None:
    released = ReleasedText()
    released.write("my key is SECRET, ok")
    assert released.retract(10, 16, "[gone]", "secrets") is None
    # The log also knows what was written, and what of it was replaced; the reader does not.
    replaced = (Replacement(10, 16, "[gone]", "secrets"),)
    written = Written((GeneratedPiece("my key is SECRET, ok"),), 0, replaced)
    assert released.clear(20) == Delta("my key is [gone], ok", written)


def test_a_range_that_was_shown_is_retracted() -> None:
    released = ReleasedText()
    released.write("my key is SECRET, ok")
    released.clear(20)
    assert released.retract(10, 16, "[gone]", "secrets") == Retracted(10, 16, "[gone]", "secrets", 10, 16)
    assert released.shown == "my key is [gone], ok"
    released.write(" and SECRET")
    released.clear(31)
    assert released.retract(25, 31, "-", "secrets") == Retracted(25, 31, "-", "secrets", 25, 31)
    assert released.shown == "my key is [gone], ok and -"


def test_a_range_that_was_half_shown_is_replaced_whole() -> None:
    released = ReleasedText()
    released.write("abc SECRET def")
    assert released.clear(7) == Delta("abc SEC")
    assert released.retract(4, 10, "[x]", "secrets") == Retracted(
        4, 7, "[x]", "secrets", 4, 10, Written((GeneratedPiece("RET"),))
    )
    assert released.clear(14) == Delta(" def")
    assert released.shown == "abc [x] def"


def story_of(
    text: str, ranges: list[tuple[int, int, str]], steps: list[tuple[int, int]]
) -> tuple[list[tuple[str, int, tuple[int, int, str] | None]], str]:
    """What comes, in order: text, how much of it is clear, and what is taken back; and what is shown in the end."""
    wanted: list[tuple[int, int, str]] = []
    for start, length, replacement in sorted(ranges):
        end = min(start + length, len(text))
        if start < end and (not wanted or start >= wanted[-1][1]):
            wanted.append((start, end, replacement))
    story: list[tuple[str, int, tuple[int, int, str] | None]] = []
    pending = list(wanted)
    position = watermark = 0
    for write, clear in [*steps, (len(text), len(text))]:
        story.append((text[position : position + write], watermark, None))
        position = min(len(text), position + write)
        while pending and pending[0][1] <= position:
            story.append(("", watermark, pending.pop(0)))
        watermark = max(watermark, min(position, watermark + clear))
        story.append(("", watermark, None))
    expected = text
    for start, end, replacement in reversed(wanted):
        expected = expected[:start] + replacement + expected[end:]
    return story, expected


def tell(released: ReleasedText, story: list[tuple[str, int, tuple[int, int, str] | None]]) -> list[Delta | Retracted]:
    """What the reader is told."""
    told: list[Delta | Retracted | None] = []
    for text, watermark, gone in story:
        if text:
            released.write(text, [ord(character) for character in text], len(text))
        if gone is not None:
            told.append(released.retract(*gone, "test"))
        told.append(released.clear(watermark))
    return [event for event in told if event is not None]


texts = st.text(alphabet="abcdé🙂 ", min_size=1, max_size=60)
several_ranges = st.lists(st.tuples(st.integers(0, 59), st.integers(1, 8), st.text("xy", max_size=5)), max_size=4)
several_steps = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), max_size=40)


@given(text=texts, ranges=several_ranges, steps=several_steps)
def test_every_order_of_events_gives_the_stored_text(
    text: str, ranges: list[tuple[int, int, str]], steps: list[tuple[int, int]]
) -> None:
    """Whenever it is cleared and taken back, the client ends with what is stored, and nothing retracted is left."""
    released = ReleasedText()
    story, expected = story_of(text, ranges, steps)
    events = tell(released, story)
    assert follow(events) == released.shown == expected
    assert shown_text(Entry(seq, event) for seq, event in enumerate(events, 1)) == expected


@given(text=texts, ranges=several_ranges, steps=several_steps, cut=st.integers(0, 200), merged=st.booleans())
def test_who_takes_over_goes_on_where_the_log_ends(
    text: str, ranges: list[tuple[int, int, str]], steps: list[tuple[int, int]], cut: int, merged: bool
) -> None:
    """Cut anywhere: the next one writes what the log lacks, the checker begins again, and nobody notices."""
    story, expected = story_of(text, ranges, steps)
    before = tell(first := ReleasedText(), story[:cut])
    log = GenerationLog("g", on_append=lambda log: None)
    for event in before:
        log.append(event)
        if not merged:
            log.seal()
    log.seal()
    assert shown_text(log.entries) == follow(before) == first.shown

    second = ReleasedText()
    for entry in entries_from_bytes(entries_to_bytes(log.entries)):
        assert isinstance(entry.event, Delta | Retracted)
        second.restore(entry.event)
    assert second.shown == first.shown
    written = second.written
    assert text.startswith(written)
    # The engine is told exactly that, and each token that is known once.
    pieces = second.transcript.continuation()
    assert "".join(piece.text for piece in pieces) == written
    assert second.transcript.cut() <= len(written)
    # The same engine goes on; the checker finds in the text from its start what it found before.
    second.write(text[len(written) :])
    after: list[Delta | Retracted | None] = []
    for _, watermark, gone in story:
        if gone is not None:
            after.append(second.retract(*gone, "test"))
        after.append(second.clear(watermark))
    events = [event for event in after if event is not None]
    assert follow([*before, *events]) == second.shown == expected
