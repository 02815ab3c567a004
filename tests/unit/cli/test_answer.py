from __future__ import annotations

from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.answer import Answer, printable, rows_on_screen
from services.cli.screen import Screen


def test_a_retraction_counts_code_points_and_later_text_follows_it() -> None:
    answer = Answer()
    answer.add("Call 🙂 555-1234 now")
    answer.retract(start=7, end=15, replacement="[number]")
    answer.add("!")

    assert answer.text == "Call 🙂 [number] now!"


@given(text=st.text(), start=st.integers(), end=st.integers(), replacement=st.text(max_size=5))
def test_a_retraction_never_touches_what_lies_outside_of_it(text: str, start: int, end: int, replacement: str) -> None:
    answer = Answer()
    answer.add(text)
    answer.retract(start=start, end=end, replacement=replacement)

    low = min(max(start, 0), len(text))
    high = min(max(end, low), len(text))
    assert answer.text == text[:low] + replacement + text[high:]


def test_what_a_terminal_would_obey_is_not_printed() -> None:
    assert printable("a\x1b[2Jb\x07\r\nc\td\x9b31m é 日") == "a[2Jb\nc\td31m é 日"


@pytest.mark.parametrize(
    ("text", "rows"),
    [("", 0), ("a" * 10, 0), ("a" * 11, 1), ("a\nb", 1), ("\n\n", 2), ("日" * 5, 0), ("日" * 6, 1), ("é" * 10, 0)],
)
def test_rows_of_a_text_on_a_screen_of_ten_columns(text: str, rows: int) -> None:
    assert rows_on_screen(text, columns=10) == rows


class _Terminal:
    """As much of a terminal as the screen uses: it wraps, moves up, returns and clears."""

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self.rows = [""]
        self._row = 0
        self._column = 0

    def feed(self, text: str) -> list[str]:
        position = 0
        while position < len(text):
            character = text[position]
            if character == "\x1b":
                end = next(i for i in range(position + 2, len(text)) if text[i].isalpha())
                argument, action = text[position + 2 : end], text[end]
                if action == "A":
                    self._row -= int(argument)
                elif action == "J":
                    self.rows = [*self.rows[: self._row], self.rows[self._row][: self._column]]
                position = end + 1
                continue
            if character == "\r":
                self._column = 0
            elif character == "\n":
                self._down()
            else:
                if self._column == self._columns:
                    self._down()
                self.rows[self._row] = self.rows[self._row][: self._column] + character
                self._column += 1
            position += 1
        return self.rows

    def _down(self) -> None:
        self._row += 1
        self._column = 0
        if self._row == len(self.rows):
            self.rows.append("")


def test_a_terminal_is_redrawn_when_text_must_go() -> None:
    out = StringIO()
    screen = Screen(out=out, err=StringIO(), is_terminal=True, size=lambda: (10, 24))
    screen.begin()
    screen.add("one two three four ")
    screen.add("secret")
    shown_before = _Terminal(10).feed(out.getvalue())
    screen.retract(start=19, end=25, replacement="[gone]")
    screen.add(" five")
    screen.end(final="one two three four [gone] five")

    assert "secret" in "".join(shown_before)
    assert _Terminal(10).feed(out.getvalue()) == ["one two th", "ree four [", "gone] five", ""]


def test_a_pipe_never_gets_what_was_retracted() -> None:
    out = StringIO()
    screen = Screen(out=out, err=StringIO(), is_terminal=False, size=lambda: (10, 24))
    screen.begin()
    screen.add("the secret")
    screen.retract(start=4, end=10, replacement="word")
    screen.end()

    assert out.getvalue() == "the word\n"


def test_a_turn_that_is_sent_again_is_not_shown_twice() -> None:
    out = StringIO()
    screen = Screen(out=out, err=StringIO(), is_terminal=True, size=lambda: (80, 24))
    screen.begin()
    screen.add("Hello wor")
    screen.begin()
    screen.add("Hello world")
    screen.end()

    assert _Terminal(80).feed(out.getvalue()) == ["Hello world", ""]


def test_a_remark_stands_above_the_answer() -> None:
    out = StringIO()
    screen = Screen(out=out, err=out, is_terminal=True, size=lambda: (10, 24))
    screen.begin()
    screen.add("one two three")
    screen.aside("(a remark)")
    screen.add(" four")
    screen.end()

    plain = [row.strip() for row in _Terminal(10).feed(out.getvalue().replace("\x1b[2m", "").replace("\x1b[0m", "\r"))]
    assert plain == ["(a remark)", "one two th", "ree four", ""]
