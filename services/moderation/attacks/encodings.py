"""What a text says in encodings that a model reads: each undone once, bounded in number and size, in linear time."""

from __future__ import annotations

import base64
import binascii
import codecs
import html
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote_plus

from services.moderation.text.hints import Hints
from services.moderation.text.lexicon import WORDS

_MOST_FOUND = 32
_MOST_DECODED = 64 << 10
_MOST_TRIED = 256
"""Candidates of one encoding. They are looked at from the start of the text."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """What `[start, end)` of a text says."""

    text: str
    start: int
    end: int
    encoding: str


_BASE64 = re.compile(
    r"(?<![A-Za-z0-9+/_=-])(?:(?:[A-Za-z0-9+/_-]{40,}\r?\n)+[A-Za-z0-9+/_-]+={0,2}|[A-Za-z0-9+/_-]{16,}={0,2})"
)
_HEX = re.compile(r"(?<![0-9A-Za-z])(?:0x)?[0-9A-Fa-f]{2}(?:[ :,]?(?:0x|\\x)?[0-9A-Fa-f]{2}){7,}(?![0-9A-Za-z])")
_HEX_ESCAPES = re.compile(r"(?:\\x[0-9A-Fa-f]{2}){6,}")
_BINARY = re.compile(r"(?<![01])[01]{8}(?:[ ,]?[01]{8}){5,}(?![01])")
_UNICODE_ESCAPES = re.compile(r"(?:\\u[0-9A-Fa-f]{4}[ ]?){4,}")
_ENTITIES = re.compile(r"(?:&#(?:x[0-9A-Fa-f]{1,6}|[0-9]{1,7});?[ ]?){4,}")
_MORSE = re.compile(r"(?<!\S)[.\-]{1,6}(?:[ /]{1,4}[.\-]{1,6}){15,}(?!\S)")
_TOKEN = re.compile(r"\S+")
_PERCENT = re.compile(r"%[0-9A-Fa-f]{2}")
_TAGS = re.compile("(?<![\U0001f3f4\U000e0020-\U000e007e])[\U000e0020-\U000e007e]{4,}")
_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]{4,}")
_LETTERS = re.compile(r"[a-z]{4,}")

_CODES = (
    ".- -... -.-. -.. . ..-. --. .... .. .--- -.- .-.. -- -. --- .--. --.- .-. ... - ..- ...- .-- -..- -.-- --.. "
    "----- .---- ..--- ...-- ....- ..... -.... --... ---.. ----. .-.-.- --..-- ..--.. .----. -.-.--"
)
_SIGNALS = dict(zip(_CODES.split(" "), "abcdefghijklmnopqrstuvwxyz0123456789.,?'!", strict=True))
_ROT13 = frozenset(codecs.encode(word, "rot13") for word in WORDS if len(word) >= 4) - WORDS
_REVERSED = frozenset(word[::-1] for word in WORDS if len(word) >= 4) - WORDS


def decoded(text: str) -> list[Decoded]:
    """The texts that are encoded in this one, in no order, at most 32 of them and 64 KiB together."""
    found: list[Decoded] = []
    room = _MOST_DECODED
    hints = _HINTS(text)
    for hint, decode in _DECODERS if hints else ():
        for result in decode(text) if hint in hints else ():
            room -= len(result.text)
            if room < 0 or len(found) == _MOST_FOUND:
                return found
            found.append(result)
    return found


def _by_pattern(
    pattern: re.Pattern[str], encoding: str, decode: Callable[[str], str | None]
) -> Callable[[str], Iterator[Decoded]]:
    def search(text: str) -> Iterator[Decoded]:
        for tried, match in enumerate(pattern.finditer(text)):
            if tried == _MOST_TRIED:
                return
            result = decode(match[0][:_MOST_DECODED])
            if result is not None:
                yield Decoded(result, match.start(), match.end(), encoding)

    return search


def _from_base64(encoded: str) -> str | None:
    # What follows lines of base64 may be their end, and may be a word.
    first, _, _ = encoded.rpartition("\n")
    return _from_line(encoded) or (_from_line(first) if first else None)


def _from_line(encoded: str) -> str | None:
    compact = "".join(encoded.split()).rstrip("=").replace("-", "+").replace("_", "/")
    if len(compact) % 4 == 1 or (compact.isalpha() and (compact.islower() or compact.isupper())):
        return None
    try:
        return _readable(base64.b64decode(compact + "=" * (-len(compact) % 4)))
    except (binascii.Error, ValueError):
        return None


def _from_hex(encoded: str) -> str | None:
    digits = re.sub(r"0x|\\x|[ :,]", "", encoded)
    return _readable(bytes.fromhex(digits)) if len(digits) % 2 == 0 else None


def _from_binary(encoded: str) -> str | None:
    bits = re.sub(r"[ ,]", "", encoded)
    return _readable(int(bits, 2).to_bytes(len(bits) // 8, "big")) if len(bits) <= 1 << 16 else None


def _from_escapes(encoded: str) -> str | None:
    units = bytes.fromhex(re.sub(r"\\u| ", "", encoded))
    return units.decode("utf-16-be", errors="ignore") or None


def _from_morse(encoded: str) -> str | None:
    words = [[_SIGNALS.get(code, "") for code in word.split()] for word in re.split(r" {2,}|/", encoded)]
    text = " ".join(filter(None, map("".join, words)))
    return text if len(text) * 2 > len(encoded.split()) else None


def _from_tags(encoded: str) -> str:
    return "".join(chr(ord(character) - 0xE0000) for character in encoded)


def _from_selectors(encoded: str) -> str | None:
    places = map(ord, encoded)
    return _readable(bytes(place - 0xFE00 if place < 0xE0000 else place - 0xE0100 + 16 for place in places))


def _readable(data: bytes) -> str | None:
    """UTF-8 that is mostly letters and blanks."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        if error.start < len(data) - 3 or error.start < 8:
            return None
        text = data[: error.start].decode()
    plain = sum(character.isalpha() or character.isspace() for character in text)
    return text if (plain >= 0.7 * len(text) and text.isprintable()) or plain >= 0.85 * len(text) else None


def _percent(text: str) -> Iterator[Decoded]:
    if text.count("%") < 3:
        return
    for tried, match in enumerate(token for token in _TOKEN.finditer(text) if token[0].count("%") >= 3):
        if tried == _MOST_TRIED:
            return
        if len(_PERCENT.findall(match[0])) >= 3:
            yield Decoded(
                unquote_plus(match[0][:_MOST_DECODED], errors="ignore"), match.start(), match.end(), "percent"
            )


def _ciphers(text: str) -> Iterator[Decoded]:
    """Rot13 and reversed text are told by at least two words that are words only when it is undone."""
    head = text[:_MOST_DECODED]
    words = set(_LETTERS.findall(head.lower()))
    if len(words & _ROT13) >= 2:
        yield Decoded(codecs.encode(head, "rot13"), 0, len(head), "rot13")
    if len(words & _REVERSED) >= 2:
        yield Decoded(head[::-1], 0, len(head), "reversed")
        yield Decoded(" ".join(word[::-1] for word in head.split()), 0, len(head), "reversed_words")


_HINTS = Hints(
    {
        "tags": r"[\x{e0020}-\x{e007e}]{4}",
        "selectors": r"[\x{fe00}-\x{fe0f}\x{e0100}-\x{e01ef}]{4}",
        "ciphers": rf"(?i)\b(?:{'|'.join(sorted(_ROT13 | _REVERSED))})\b",
        "base64": r"[A-Za-z0-9+/_-]{16}",
        "hex": r"[0-9A-Fa-f]{2}(?:[ :,]?(?:0x|\\x)?[0-9A-Fa-f]{2}){5}",
        "hex_escapes": r"\\x[0-9A-Fa-f]{2}\\x",
        "morse": r"[.\-]{1,6}(?:[ /]{1,4}[.\-]{1,6}){15}",
        "binary": r"[01]{8}[ ,]?[01]{8}",
        "escapes": r"\\u[0-9A-Fa-f]{4}",
        "entities": r"&#[xX0-9]",
        "percent": r"%[0-9A-Fa-f]{2}",
    }
)

_DECODERS: tuple[tuple[str, Callable[[str], Iterator[Decoded]]], ...] = (
    ("tags", _by_pattern(_TAGS, "tags", _from_tags)),
    ("selectors", _by_pattern(_SELECTORS, "variation_selectors", _from_selectors)),
    ("ciphers", _ciphers),
    ("base64", _by_pattern(_BASE64, "base64", _from_base64)),
    ("hex", _by_pattern(_HEX, "hex", _from_hex)),
    ("hex_escapes", _by_pattern(_HEX_ESCAPES, "hex", _from_hex)),
    ("morse", _by_pattern(_MORSE, "morse", _from_morse)),
    ("binary", _by_pattern(_BINARY, "binary", _from_binary)),
    ("escapes", _by_pattern(_UNICODE_ESCAPES, "escapes", _from_escapes)),
    ("entities", _by_pattern(_ENTITIES, "entities", html.unescape)),
    ("percent", _percent),
)
"""By the hint without which a decoder finds nothing. What hides best comes first, for there is a bound."""
