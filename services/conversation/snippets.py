"""The place of a text where the words of a search are. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

from services.conversation.search_query import WORD

LENGTH = 160
"""Code points of a snippet, more or less: it is cut between words, and never within the word that was found."""
BEFORE = 60
"""How many of them stand before the first word that was found."""
ELLIPSIS = "…"
"""Stands where text was cut off."""

Range = tuple[int, int]


def snippet(text: str, matches: Callable[[str], bool]) -> tuple[str, tuple[Range, ...]]:
    """The surroundings of the first word that matches, on one line, and the ranges of all that match in it.

    Text without such a word gives its beginning and no range: the database may have found what stands in it otherwise.
    """
    line = " ".join(text.split())
    first = next((word.span() for word in WORD.finditer(line) if matches(word[0])), (0, 0))
    start, end = _window(line, first)
    head = ELLIPSIS if start else ""
    tail = ELLIPSIS if end < len(line) else ""
    shift = len(head) - start
    ranges = tuple(
        (word.start() + shift, word.end() + shift)
        for word in WORD.finditer(line, start, end)
        if _is_whole(line, word) and matches(word[0])
    )
    return head + line[start:end] + tail, ranges


def _window(line: str, found: Range) -> Range:
    """Where to cut: between words where there are any, and with room on both sides of what was found."""
    end = min(len(line), max(found[0] - BEFORE, 0) + LENGTH)
    start = max(0, min(found[0] - BEFORE, end - LENGTH))
    end = max(end, found[1])
    if start and line[start - 1] != " ":
        space = line.find(" ", start, found[0])
        start = space + 1 if space >= 0 else start
    if end < len(line) and line[end] != " ":
        space = line.rfind(" ", found[1], end)
        end = space if space > 0 else end
    return start, end


def _is_whole(line: str, word: re.Match[str]) -> bool:
    """Whether a word does not go on beyond the window."""
    before = word.start() and WORD.match(line, word.start() - 1)
    return not before and not WORD.match(line, word.end())
