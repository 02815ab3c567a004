"""What the client holds after following every event is what is stored."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.conversation.generation_log import Delta, Retracted
from services.conversation.released_text import ReleasedText


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
    assert released.clear(20) == Delta("my key is [gone], ok")


def test_a_range_that_was_shown_is_retracted() -> None:
    released = ReleasedText()
    released.write("my key is SECRET, ok")
    released.clear(20)
    assert released.retract(10, 16, "[gone]", "secrets") == Retracted(10, 16, "[gone]", "secrets")
    assert released.shown == "my key is [gone], ok"
    released.write(" and SECRET")
    released.clear(31)
    assert released.retract(25, 31, "-", "secrets") == Retracted(25, 31, "-", "secrets")
    assert released.shown == "my key is [gone], ok and -"


def test_a_range_that_was_half_shown_is_replaced_whole() -> None:
    released = ReleasedText()
    released.write("abc SECRET def")
    assert released.clear(7) == Delta("abc SEC")
    assert released.retract(4, 10, "[x]", "secrets") == Retracted(4, 7, "[x]", "secrets")
    assert released.clear(14) == Delta(" def")
    assert released.shown == "abc [x] def"


@given(
    text=st.text(alphabet="abcdé🙂 ", min_size=1, max_size=60),
    ranges=st.lists(st.tuples(st.integers(0, 59), st.integers(1, 8), st.text("xy", max_size=5)), max_size=4),
    steps=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), max_size=40),
)
def test_every_order_of_events_gives_the_stored_text(
    text: str, ranges: list[tuple[int, int, str]], steps: list[tuple[int, int]]
) -> None:
    """Whenever it is cleared and taken back, the client ends with what is stored, and nothing retracted is left."""
    wanted: list[tuple[int, int, str]] = []
    for start, length, replacement in sorted(ranges):
        end = min(start + length, len(text))
        if start < end and (not wanted or start >= wanted[-1][1]):
            wanted.append((start, end, replacement))
    released = ReleasedText()
    events: list[Delta | Retracted] = []
    pending = list(wanted)
    position = watermark = 0
    for write, clear in [*steps, (len(text), len(text))]:
        released.write(text[position : position + write])
        position = min(len(text), position + write)
        while pending and pending[0][1] <= position:
            start, end, replacement = pending.pop(0)
            retracted = released.retract(start, end, replacement, "test")
            if retracted is not None:
                events.append(retracted)
        watermark = max(watermark, min(position, watermark + clear))
        delta = released.clear(watermark)
        if delta is not None:
            events.append(delta)
    expected = text
    for start, end, replacement in reversed(wanted):
        expected = expected[:start] + replacement + expected[end:]
    assert follow(events) == released.shown == expected
