"""Tells random strings, which keys and passwords are, from names, words and what stands in their place in examples."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from math import log2

from services.moderation.rules.candidate import Candidate, Span

_PLACEHOLDER = re.compile(
    r"(?i)your|example|placeholder|change.?me|dummy|sample|redacted|insert|replace|foo.?bar|process\.env|environ"
    r"|password|getenv|abcdef|012345|123456|qwerty|\*{3}|\.{3}|x{4}|[<>{}]"
)
_UUID = re.compile(r"(?i)[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_HASH = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})")
_PARTS = re.compile(r"[A-Za-z0-9]+")
_SAME = re.compile(r"(.)\1{5}")
_PASSWORD = re.compile(r"(?i)pass|pwd")


def shannon(text: str) -> float:
    """Bits per character, were the characters drawn as often as they stand in the text."""
    return sum(count * log2(len(text) / count) for count in Counter(text).values()) / len(text) if text else 0.0


def is_token(text: str) -> bool:
    """Whether a text in the form of a key can be one: not `ghp_xxxx...` and not `sk-words-with-dashes-2`."""
    return (
        len(text) >= 20
        and _SAME.search(text) is None
        and "xxxx" not in text.lower()
        and shannon(text) >= 2.5
        and any(_is_drawn(part, least=8, stretch=8) for part in _PARTS.findall(text))
    )


def assigned_secret(candidate: Candidate) -> Span | None:
    """The value that is given to a name (`api_key = "..."`, `Authorization: Bearer ...`) when it looks random."""
    text = candidate.text
    start = max(text.rfind(sign) for sign in " \t\n\"'`") + 1
    if start == 0:
        start = min((at for sign in ":=" if (at := text.find(sign)) >= 0), default=-1) + 1
    start += len(text[start:]) - len(text[start:].lstrip("=:>"))
    value = text[start:].rstrip(".,;:")
    called = candidate.after == "("
    password = _PASSWORD.search(text, 0, start) is not None
    if not called and (is_random(value) or (password and is_strong_password(value))):
        return start, start + len(value)
    return len(text), len(text)


def is_random(value: str) -> bool:
    """Whether a value was drawn by a machine."""
    return (
        len(value) >= 16
        and not _stands_for_something(value)
        and shannon(value) >= 3.0
        and _is_drawn(max(_PARTS.findall(value), key=len, default=""), least=12, stretch=5)
    )


def _is_drawn(part: str, *, least: int, stretch: int) -> bool:
    """Whether letters and digits change places every `stretch` characters, as in no word nor number behind a word."""
    kinds = [_kind(character) for character in part]
    changes = sum(left != right for left, right in pairwise(kinds))
    return len(part) >= least and 0 in kinds and any(kinds) and changes * stretch >= len(part)


def is_strong_password(value: str) -> bool:
    """Whether a value that is called a password has three kinds of characters and is not one of an example."""
    kinds = {_kind(character) for character in value}
    return (
        len(value) >= 8
        and len(kinds) >= 3
        and 0 in kinds
        and shannon(value) >= 2.7
        and not _stands_for_something(value)
    )


def _stands_for_something(value: str) -> bool:
    return bool(_PLACEHOLDER.search(value) or _UUID.fullmatch(value) or _HASH.fullmatch(value) or _SAME.search(value))


def _kind(character: str) -> int:
    if character.isdigit():
        return 0
    if character.isalpha():
        return 1 if character.islower() else 2
    return 3
