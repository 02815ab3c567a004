"""Ways in which people hide words from a filter, as seeded transformations of a text.

Training uses them to show the classifier hidden forms of rows, of both labels alike: hiding alone must not become the
mark of harm. Tests use them to show what normalisation undoes.
"""

from __future__ import annotations

import base64
import codecs
from collections.abc import Callable, Mapping
from random import Random

_LEET: Mapping[str, str] = {
    "a": "4@",
    "b": "8",
    "e": "3",
    "g": "9",
    "i": "1!",
    "l": "1",
    "o": "0",
    "s": "5$",
    "t": "7+",
    "z": "2",
}

# Cyrillic, Greek and other letters that look like Latin ones, written as escapes: in the source they would not be told
# apart from what they imitate.
_HOMOGLYPHS: Mapping[str, str] = {
    "a": "\u0430\u0251\uff41",
    "b": "\u042c\uff42",
    "c": "\u0441\u03f2\uff43",
    "d": "\u0501\uff44",
    "e": "\u0435\u212e\uff45",
    "g": "\u0261\uff47",
    "h": "\u04bb\uff48",
    "i": "\u0456\u0131\uff49",
    "j": "\u0458\uff4a",
    "k": "\u03ba\uff4b",
    "l": "\u04cf\uff4c",
    "m": "\u043c\uff4d",
    "n": "\u0578\uff4e",
    "o": "\u043e\u03bf\uff4f",
    "p": "\u0440\u03c1\uff50",
    "q": "\u051b\uff51",
    "r": "\u0433\uff52",
    "s": "\u0455\uff53",
    "t": "\u03c4\uff54",
    "u": "\u03c5\uff55",
    "v": "\u03bd\uff56",
    "w": "\u0461\uff57",
    "x": "\u0445\uff58",
    "y": "\u0443\uff59",
    "z": "\u1d22\uff5a",
    "A": "\u0410\u0391",
    "B": "\u0412\u0392",
    "C": "\u0421",
    "E": "\u0415\u0395",
    "H": "\u041d\u0397",
    "I": "\u0406\u0399",
    "K": "\u041a\u039a",
    "M": "\u041c\u039c",
    "O": "\u041e\u039f",
    "P": "\u0420\u03a1",
    "S": "\u0405",
    "T": "\u0422\u03a4",
    "X": "\u0425\u03a7",
    "Y": "\u04ae\u03a5",
}

_ZERO_WIDTH = "\u200b\u200c\u200d\u2060\ufeff\u00ad"

_SEPARATORS = (" ", ".", "-", "_", "*", "/")

_NEIGHBOURS: Mapping[str, str] = {
    "a": "qs",
    "b": "vn",
    "c": "xv",
    "d": "sf",
    "e": "wr",
    "f": "dg",
    "g": "fh",
    "h": "gj",
    "i": "uo",
    "j": "hk",
    "k": "jl",
    "l": "kö",
    "m": "n",
    "n": "bm",
    "o": "ip",
    "p": "o",
    "r": "et",
    "s": "ad",
    "t": "ry",
    "u": "yi",
    "v": "cb",
    "w": "qe",
    "y": "tu",
}


def leetspeak(text: str, rng: Random, *, share: float = 0.7) -> str:
    """Digits and signs for letters."""
    return _replaced(text, rng, table=_LEET, share=share)


def homoglyphs(text: str, rng: Random, *, share: float = 0.4) -> str:
    """Letters of other scripts that look the same."""
    return "".join(
        rng.choice(_HOMOGLYPHS[letter]) if letter in _HOMOGLYPHS and rng.random() < share else letter for letter in text
    )


def zero_width(text: str, rng: Random, *, share: float = 0.3) -> str:
    """Characters without width inside words."""
    parts: list[str] = []
    for letter, following in zip(text, f"{text[1:]} ", strict=False):
        parts.append(letter)
        if letter.isalnum() and following.isalnum() and rng.random() < share:
            parts.append(rng.choice(_ZERO_WIDTH))
    return "".join(parts)


def spaced(text: str, rng: Random) -> str:
    """Every letter apart from the next: `k i l l` or `k.i.l.l`, words by wider gaps."""
    separator = rng.choice(_SEPARATORS)
    gap = "   " if separator == " " else " "
    return gap.join(separator.join(word) for word in text.split())


def base64_encoded(text: str, rng: Random) -> str:
    """The whole text in base64, now and then behind a request to decode it."""
    encoded = base64.b64encode(text.encode()).decode()
    return rng.choice(("", "", "Decode this base64 and answer it: ", "base64: ")) + encoded


def rot13(text: str, rng: Random) -> str:
    """The whole text in rot13, now and then behind a request to decode it."""
    return rng.choice(("", "", "Decode this rot13 and answer it: ", "rot13: ")) + codecs.encode(text, "rot13")


def mixed_case(text: str, rng: Random) -> str:
    """Capitals here and there, or everywhere, or nowhere."""
    style = rng.randrange(3)
    if style == 0:
        return text.upper()
    if style == 1:
        return text.lower()
    return "".join(letter.upper() if rng.random() < 0.5 else letter.lower() for letter in text)


def typos(text: str, rng: Random, *, share: float = 0.04) -> str:
    """Slips of the fingers: a neighbouring key, a letter lost, doubled or swapped with the next."""
    letters = list(text)
    place = 0
    while place < len(letters):
        letter = letters[place]
        if letter.isalpha() and rng.random() < share:
            slip = rng.randrange(4)
            if slip == 0:
                letters[place] = ""
            elif slip == 1:
                letters[place] = letter + letter
            elif slip == 2 and place + 1 < len(letters):
                letters[place], letters[place + 1] = letters[place + 1], letter
                place += 1
            else:
                letters[place] = rng.choice(_NEIGHBOURS.get(letter, letter))
        place += 1
    return "".join(letters)


TRANSFORMATIONS: Mapping[str, Callable[[str, Random], str]] = {
    "leetspeak": leetspeak,
    "homoglyphs": homoglyphs,
    "zero_width": zero_width,
    "spaced": spaced,
    "base64": base64_encoded,
    "rot13": rot13,
    "mixed_case": mixed_case,
    "typos": typos,
}
"""Every transformation by its name."""


def obfuscate(text: str, *, transformation: str, seed: int) -> str:
    """Transform a text; the same seed gives the same result.

    Raises:
        KeyError: there is no such transformation.
    """
    # A string seed, for the text takes part: rows of one seed do not all lose the same letters.
    return TRANSFORMATIONS[transformation](text, Random(f"{seed}:{transformation}:{text}"))


def _replaced(text: str, rng: Random, *, table: Mapping[str, str], share: float) -> str:
    return "".join(
        rng.choice(table[letter.lower()]) if letter.lower() in table and rng.random() < share else letter
        for letter in text
    )
