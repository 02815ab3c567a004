"""An answer as it stands on the screen: text that comes in pieces, of which some must go again. Pure."""

from __future__ import annotations

import unicodedata


class Answer:
    """The text of one answer, in Unicode code points."""

    def __init__(self) -> None:
        self.text = ""

    def add(self, text: str) -> None:
        """More text at the end."""
        self.text += text

    def retract(self, *, start: int, end: int, replacement: str) -> None:
        """Put `replacement` in place of `[start, end)`; a range that reaches past the end is cut to it."""
        start = min(max(start, 0), len(self.text))
        end = min(max(end, start), len(self.text))
        self.text = self.text[:start] + replacement + self.text[end:]


def printable(text: str) -> str:
    """The text without what a terminal would obey: a model may write escape sequences too."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs"))


def rows_on_screen(text: str, *, columns: int) -> int:
    """Rows below the first that a terminal of so many columns needs for the text."""
    rows = 0
    for number, line in enumerate(text.split("\n")):
        width = _width(line)
        # A line that fills its row exactly leaves the cursor there; the next row begins with the next character.
        rows += max(width - 1, 0) // columns + (1 if number else 0)
    return rows


def _width(line: str) -> int:
    width = 0
    for character in line:
        if character == "\t":
            width += 8 - width % 8
        elif not unicodedata.combining(character) and unicodedata.category(character) not in ("Cf", "Mn", "Me"):
            width += 2 if unicodedata.east_asian_width(character) in "WF" else 1
    return width
