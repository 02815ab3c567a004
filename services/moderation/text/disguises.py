"""Words in disguise: spaced-out letters, digits for letters, words run together. Each is found as edits of a text.

What is taken for a disguise must turn into words of the lexicon, so that `k8s`, `a, b, c, d`, `x + y = z` and `utf8`
stay what they are. Case is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from services.moderation.text.edit import Edit
from services.moderation.text.hints import Hints
from services.moderation.text.lexicon import WORDS, split_words

_MAX_SPACED = 4000
"""Characters of a run of spaced letters that are joined; what follows is looked at as a run of its own."""


# Single characters between blanks: at least five of them.
_APART = re.compile(r"(?<!\S)\S(?:[ \t\n]{1,5}\S){4,}(?!\S)")
# Single letters between signs: at least five of them; and, where there are such, shorter words in the same manner.
_DOTTED = re.compile(r"(?<!\w)(?<!\w[.\-_*·|/~+])[^\W_]([.\-_*·|/~+])[^\W_](?:\1[^\W_]){3,}(?!\w)")
_BLANKS = re.compile(r"[ \t\n]+")
_SHARE_OF_WORDS = 0.5


HINTS = Hints(
    {
        "apart": r"(?:^|[ \t\n])[^ \t\n](?:[ \t\n]{1,5}[^ \t\n]){4}(?:[ \t\n]|$)",
        "dotted": r"[A-Za-z0-9](?:[.\-_*·|/~+][A-Za-z0-9]){4}",
        "leet": r"[0-9@$!|€][A-Za-z]|[A-Za-z][013456789@$!|€]",
        "together": r"[A-Za-z]{20}",
        "blanks": r"[ \t\n\r\f\v]{2}|[\t\r\f\v]",
        "control": r"[\x00-\x08\x0e-\x1f\x7f]",
    }
)
"""Which disguises a text may have. ASCII without any of them is as it should be."""


_LONGEST_WORD = 16


def spaced_edits(text: str) -> list[Edit]:
    """Where letters were written apart: `i g n o r e`, `i.g.n.o.r.e`."""
    edits: list[Edit] = []
    for match in _APART.finditer(text):
        for start in range(match.start(), match.end(), _MAX_SPACED):
            end = min(match.end(), start + _MAX_SPACED)
            joined = _joined(text[start:end])
            if joined is not None:
                edits.append(Edit(start, end, joined))
    if (found := _DOTTED.search(text)) is not None:
        edits = _merged(edits, _dotted_edits(text, found[1]))
    return edits


def _joined(run: str) -> str | None:
    """The words of single characters between blanks; None when they do not make up words."""
    gaps = [len(gap) for gap in _BLANKS.findall(run)]
    usual = min(gaps, default=1)
    if max(gaps, default=1) > usual:
        words = re.split(rf"[ \t\n]{{{usual + 1},}}", run)
        parts = ["".join(word.split()) for word in words]
        # A last look at each, for a line break may stand for one gap and a space for another.
        if not _are_words(parts) and not _look_like_words(parts):
            return None
        return " ".join(parts)
    letters = "".join(run.split())
    if not _are_words([letters]):
        return None
    return _with_gaps(letters)


def _are_words(parts: list[str]) -> bool:
    every = "".join(character for part in parts for character in part.lower() if character.isalnum())
    letters = "".join(character for character in every if character.isascii())
    if len(letters) < 5 or len(letters) < 0.8 * len(every):
        return False
    digits = sum(character.isdigit() for character in letters)
    if digits and digits < len(letters):
        letters = letters.translate(_LEET)
    if sum(character.isalpha() for character in letters) < 0.6 * sum(map(len, parts)):
        return False
    words, share = split_words(letters)
    return share >= _SHARE_OF_WORDS and max(map(len, words)) > 3


def _look_like_words(parts: list[str]) -> bool:
    """Whether groups of letters are as long as words and have as many vowels, which scales and sets have not."""
    letters = "".join(parts).lower()
    if len(set(letters)) < 8 or len(letters) < 3 * len(parts) or len(letters) < 12:
        return False
    alphabetic = sum(character.isalpha() for character in letters)
    vowels = sum(character in "aeiouy" for character in letters)
    return alphabetic > 0.8 * len(letters) and 0.25 < vowels / alphabetic < 0.6


def _with_gaps(run: str) -> str:
    """Letters without spaces, with signs among them, as words."""
    return " ".join(
        _split(piece) if piece.isalpha() and piece.isascii() else piece
        for piece in re.findall(r"[^\W\d_]+|[^A-Za-z]+", run)
    )


def _split(letters: str) -> str:
    words, _ = split_words(letters.lower())
    at = 0
    parts: list[str] = []
    for word in words:
        parts.append(letters[at : at + len(word)])
        at += len(word)
    return " ".join(parts)


def _dotted_edits(text: str, sign: str) -> Iterator[Edit]:
    quoted = re.escape(sign)
    pattern = re.compile(
        rf"(?<!\w)(?<!\w{quoted})[^\W_](?:{quoted}(?:[^\W_]|'(?={quoted})))+(?!\w)(?:{quoted}(?=[,.;:!?]))?"
    )
    matches = list(pattern.finditer(text))
    joined = [match[0].replace(sign, "") for match in matches]
    # U.N.E.S.C.O. and e.g. are written so.
    known = {word for word in joined if len(word) >= 4 and (sign != "." or not word.isupper())}
    if not any(_are_words([word]) for word in known):
        return
    for match, word in zip(matches, joined, strict=True):
        apart = len(word) > _LONGEST_WORD and word.isalpha() and word.isascii()
        yield Edit(match.start(), match.end(), _split(word) if apart else word)


def _merged(first: list[Edit], second: Iterator[Edit]) -> list[Edit]:
    """Both, in order; of two that overlap the first one."""
    edits: list[Edit] = []
    for edit in sorted([*first, *second], key=lambda edit: edit.start):
        if not edits or edit.start >= edits[-1].end:
            edits.append(edit)
    return edits


_LEET = str.maketrans("013456789@$!|€", "oieasgtbgasile")
_LEET_L = str.maketrans("013456789@$!|€", "oleasgtbgaslle")
_TOKEN = re.compile(r"[A-Za-z0-9@$!|€]+(?:'[A-Za-z0-9]{1,2}(?![A-Za-z0-9]))?")
_TAIL = re.compile(r"[A-Za-z]+[0-9!|]+|[A-Za-z]+[1-4][dD]|[0-9]+[A-Za-z]{1,3}")
_NUMBERS = {"70": "to", "41": "ai", "17": "it", "15": "is", "45": "as", "47": "at", "4": "a", "1": "i"}
_PATHS = tuple("\\%#&_@")
_PATHS_AFTER = tuple("_{")
_JOINTS = tuple("/=.")
_INTERLEAVED = re.compile(r"[A-Za-z]+(?:[013457@$!]+[A-Za-z]+){2,}")
_INSIDE = re.compile(r"[A-Za-z]+[013457@$!]+[A-Za-z]+")
_LONGEST_TOKEN = 32
_ENDINGS = ("s", "ed", "er", "ers", "ing", "ly", "d", "r")


def leet_edits(text: str) -> list[Edit]:
    """Where digits and signs stand for letters: `1gn0r3`.

    A token that turns into a word counts by itself when the digits are inside of it. Two of them, and every token of
    the text with letters and digits is taken to be one.
    """
    tokens = [(match.start(), token) for match in _TOKEN.finditer(text) if (token := _candidate(text, match))]
    folded = {token: _as_word(token) for token in {token for _, token in tokens}}
    strong = {
        token
        for start, token in tokens
        if folded[token][1] and _is_strong(token) and not _is_joined(text, start, start + len(token))
    }
    if not strong:
        return []
    alike = any(
        (_INSIDE if known else _INTERLEAVED).fullmatch(token)
        for token, (_, known) in folded.items()
        if token not in strong
    )
    everywhere = alike or len(strong) > 1
    edits: list[Edit] = []
    for start, token in tokens:
        word, known = folded[token]
        if token.isdecimal():
            word = _NUMBERS.get(token, token) if len(strong) > 3 and not _is_figure(text, start, token) else token
        elif not (token in strong or (everywhere and _is_weak(token, known))):
            continue
        if word != token:
            edits.append(Edit(start, start + len(token), word))
    return edits


def _candidate(text: str, match: re.Match[str]) -> str:
    """What may be leet of a token; nothing of what is part of an address, a path or an escape."""
    if match[0].isalpha() or len(match[0]) > _LONGEST_TOKEN:
        return ""
    if text[match.start() - 1 : match.start()] in _PATHS or text[match.end() : match.end() + 1] in _PATHS_AFTER:
        return ""
    token = match[0].rstrip("!|@$")
    return "" if token.isalpha() else token


def _is_joined(text: str, start: int, end: int) -> bool:
    """Whether it is part of a path, an address or an assignment, and so no proof of a disguise."""
    after = text[end : end + 2]
    return text[start - 1 : start] in _JOINTS or after[:1] in ("/", "=") or (after[:1] == "." and after[1:].isalnum())


def _is_figure(text: str, start: int, token: str) -> bool:
    """Whether a number stands where numbers do: a date, a decimal, a range."""
    around = text[start - 1 : start] + text[start + len(token) : start + len(token) + 1]
    return any(character in "-:.,/+*=%)" for character in around)


def _is_strong(token: str) -> bool:
    return len(token) > 3 and _TAIL.fullmatch(token) is None and any(character.isalpha() for character in token)


def _is_weak(token: str, known: bool) -> bool:
    return known or (_TAIL.fullmatch(token) is None and token[0] not in "@$!|")


def _as_word(token: str) -> tuple[str, bool]:
    """The token in letters, in its own case, and whether that is a word."""
    lower = token.lower()
    readings = (lower.translate(_LEET), lower.translate(_LEET_L))
    known = next((reading for reading in readings if _is_word(reading)), None)
    reading = known or readings[0]
    capitals = any(character.isupper() for character in token) and not any(character.islower() for character in token)
    letters = (
        old if old.isalpha() else new.upper() if capitals else new for old, new in zip(token, reading, strict=True)
    )
    return "".join(letters), known is not None


def _is_word(letters: str) -> bool:
    if letters in WORDS:
        return True
    return len(letters) > 4 and any(
        letters.endswith(ending) and letters[: -len(ending)] in WORDS and len(letters) - len(ending) > 2
        for ending in _ENDINGS
    )


_LONG = re.compile(r"[a-z]{20,}")
_LONGEST_RUN = 2000


def run_together_edits(text: str) -> list[Edit]:
    """Where lower-case words follow each other without spaces: `ignoreallpreviousinstructions`."""
    edits: list[Edit] = []
    for match in _LONG.finditer(text):
        if match.end() - match.start() > _LONGEST_RUN:
            continue
        words, share = split_words(match[0])
        if share >= 0.8 and len(words) > 2:
            edits.append(Edit(match.start(), match.end(), " ".join(words)))
    return edits
