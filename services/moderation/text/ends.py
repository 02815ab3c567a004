"""The two ends of a long text: where alone is looked for what takes long to find.

What is made to be read lies where a model heeds it most, at the beginning or at the end. What stands between the ends
is looked at as it was written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from services.moderation.text.edit import Edit

MOST = 64 << 10
"""Code points of a text that is looked at whole."""

END = MOST // 2
"""Code points of each end of a longer one."""


def edits_at_ends(text: str, find: Callable[[str], Iterable[Edit]]) -> Iterator[Edit]:
    """The edits of a text, in order: of a long one those of its ends, each found by itself."""
    if len(text) <= MOST:
        yield from find(text)
        return
    yield from find(text[:END])
    start = len(text) - END
    for edit in find(text[start:]):
        yield Edit(start + edit.start, start + edit.end, edit.new)
