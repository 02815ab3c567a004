"""One pass over a text that tells which of several costly looks at it could find anything."""

from __future__ import annotations

from collections.abc import Mapping

import re2

_MAX_MEMORY_BYTES = 16 << 20


class Hints:
    """Patterns in RE2 syntax, by name. A name that is not returned has no match in the text."""

    __slots__ = ("_names", "_set")

    def __init__(self, patterns: Mapping[str, str]) -> None:
        options = re2.Options()
        options.max_mem = _MAX_MEMORY_BYTES
        options.log_errors = False
        self._set = re2.Set.SearchSet(options)
        self._names = tuple(patterns)
        for pattern in patterns.values():
            self._set.Add(pattern.encode())
        self._set.Compile()

    def __call__(self, text: str) -> frozenset[str]:
        """The names of the patterns that match in `text`."""
        # A lone surrogate is nothing that a pattern looks for.
        found = self._set.Match(text.encode(errors="replace"))
        return frozenset(self._names[index] for index in found) if found else frozenset()
