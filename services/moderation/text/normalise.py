"""Text as it is read, whatever it was written with.

Two forms are made. `normalise` is for patterns: lower case, without accents, one blank between words; it knows where
each of its characters stands in the original. `for_classifier` undoes disguises and nothing else: prose of any
language, code and addresses come out as they went in.

In both, letters of other alphabets become ASCII only where they cannot be meant as what they are: in a word together
with Latin letters, or in a word of nothing but look-alikes between words of Latin letters. Accents and the marks of
Latin, Greek and Cyrillic are dropped for patterns only; the vowel signs of Arabic, Hebrew and Indic scripts always
stay. The time is linear, and plain ASCII takes the short way.

Of a text of more than 64 Ki code points disguises are undone in its first and its last 32 Ki only, for that takes a
microsecond or more for each. Between them case, accents and blanks are evened out for patterns, and what is in disguise
stays so.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from services.moderation.text.confusables import LOOKALIKE, REGIONAL, SIMILAR, STROKES, STYLED
from services.moderation.text.disguises import HINTS, leet_edits, run_together_edits, spaced_edits
from services.moderation.text.edit import Edit
from services.moderation.text.ends import END, MOST, edits_at_ends
from services.moderation.text.hints import Hints

_INVISIBLE = (
    "\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_MARKS = "\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
_DROPPED = re.compile(f"[{_INVISIBLE}{_MARKS}]+")
_ASCII_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_GREEK = re.compile("[\u0370-\u03ff]")
_WORD = re.compile("[\\w" + "".join(c for c in STYLED if not c.isalnum()) + "]+")
_UNICODE_HINTS = Hints(
    {
        "dropped": f"[{_INVISIBLE}{_MARKS}]",
        "styled": "[" + "".join(STYLED) + "]",
        "foreign": "[" + "".join([*LOOKALIKE, *SIMILAR]) + "]",
        "latin": "[A-Za-z" + "".join(STYLED) + "]",
        "regional": "[\U0001f1e6-\U0001f1ff]",
    }
)
"""What may have to be done about a text that is not ASCII."""

_BLANKS = re.compile(r"[ \t\n\r\f\v]{2,}|[\t\r\f\v]")


class _Map:
    """Where the edits of one step stand, before and after it."""

    __slots__ = ("_new_ends", "_new_starts", "_old_ends", "_old_starts")

    def __init__(self) -> None:
        self._new_starts: list[int] = []
        self._new_ends: list[int] = []
        self._old_starts: list[int] = []
        self._old_ends: list[int] = []

    def __bool__(self) -> bool:
        return bool(self._new_starts)

    def add(self, edit: Edit, at: int) -> None:
        self._new_starts.append(at)
        self._new_ends.append(at + len(edit.new))
        self._old_starts.append(edit.start)
        self._old_ends.append(edit.end)

    def start(self, offset: int) -> int:
        """Where what begins here began. What was dropped before it does not belong to it."""
        index = bisect_right(self._new_starts, offset) - 1
        if index < 0:
            return offset
        if offset < self._new_ends[index]:
            return self._old_starts[index]
        return self._old_ends[index] + offset - self._new_ends[index]

    def end(self, offset: int) -> int:
        """Where what ends here ended. What was dropped after it does not belong to it."""
        index = bisect_left(self._new_starts, offset) - 1
        if index < 0:
            return offset
        return self._old_ends[index] + max(0, offset - self._new_ends[index])


@dataclass(frozen=True, slots=True)
class Normalised:
    """A text for patterns, and the way back to the original."""

    text: str
    _maps: tuple[_Map, ...] = ()

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The range of the original that `[start, end)` of `text` was made from, in code points."""
        if start >= end:
            end = start
        for step in reversed(self._maps):
            begin = step.start(start)
            start, end = begin, max(begin, step.end(end)) if end > start else begin
        return start, end


class _Steps:
    """A text that is edited step by step."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.maps: list[_Map] = []

    def edit_ends(self, find: Callable[[str], Iterable[Edit]]) -> None:
        """Make the edits that `find` finds; in a long text, in its ends."""
        self.edit(edits_at_ends(self.text, find))

    def edit(self, edits: Iterable[Edit]) -> None:
        """Make edits that are in order and do not overlap."""
        parts: list[str] = []
        moved = _Map()
        at = length = 0
        for edit in edits:
            kept = self.text[at : edit.start]
            parts += (kept, edit.new)
            length += len(kept)
            if len(edit.new) != edit.end - edit.start:
                moved.add(edit, length)
            length += len(edit.new)
            at = edit.end
        if not parts:
            return
        parts.append(self.text[at:])
        self.text = "".join(parts)
        if moved:
            self.maps.append(moved)


def normalise(text: str) -> Normalised:
    """The form for patterns."""
    steps = _Steps(text)
    ascii_only = text.isascii()
    if not ascii_only:
        _fold(steps)
    hints = HINTS(steps.text)
    if ascii_only:
        if "control" in hints:
            steps.edit_ends(_dropping(_ASCII_CONTROL))
            hints = HINTS(steps.text)
        steps.text = steps.text.lower()
    if "apart" in hints or "dotted" in hints:
        steps.edit_ends(spaced_edits)
    if "leet" in hints or "apart" in hints:
        steps.edit_ends(leet_edits)
    if "together" in hints:
        steps.edit_ends(run_together_edits)
    if "blanks" in hints:
        steps.edit(Edit(*match.span(), "\n" if "\n" in match[0] else " ") for match in _BLANKS.finditer(steps.text))
    return Normalised(steps.text, tuple(steps.maps))


def _fold(steps: _Steps) -> None:
    hints = _UNICODE_HINTS(steps.text)
    if "dropped" in hints:
        steps.edit_ends(_dropping(_DROPPED))
    if "foreign" in hints and "latin" in hints:
        steps.edit_ends(lambda text: _posing(list(_WORD.finditer(text)), mixed=2, whole=2))
    odd = "".join(character for character in set(steps.text) if len(_FOLDED[ord(character)]) != 1)
    if odd:
        pattern = re.compile("[" + re.escape(odd) + "]")
        steps.edit_ends(lambda text: (Edit(*match.span(), _FOLDED[ord(match[0])]) for match in pattern.finditer(text)))
    # What is still odd, far from the ends of a long text, stays: every character keeps its place.
    steps.text = steps.text.translate(_InPlace({ord(character): character for character in odd}))


def _dropping(pattern: re.Pattern[str]) -> Callable[[str], Iterator[Edit]]:
    return lambda text: (Edit(*match.span(), "") for match in pattern.finditer(text))


_MARK = re.compile(f"[{_MARKS}]+")
_SIGNS = {**dict.fromkeys("‘’‚‛′＇`´", "'"), **dict.fromkeys("“”„‟″«»「」『』", '"'), **dict.fromkeys("‐‑‒–—―−", "-")}
_SIGNS |= {"\u2028": "\n", "\u2029": "\n", "\x85": "\n", "\u2800": " ", "。": ".", "，": ",", "、": ","}
_MOST_REMEMBERED = 20_000


class _Folded(dict[int, str]):
    """Every character as patterns see it; filled as characters come up, up to a bound."""

    def __missing__(self, code: int) -> str:
        folded = _folded(chr(code))
        if len(self) < _MOST_REMEMBERED:
            self[code] = folded
        return folded


def _folded(character: str) -> str:
    if character.isascii():
        return character.lower()
    known = _SIGNS.get(character) or STYLED.get(character) or REGIONAL.get(character) or STROKES.get(character)
    if known is not None:
        return known.lower()
    plain = _MARK.sub("", unicodedata.normalize("NFKD", character))
    plain = unicodedata.normalize("NFC", "".join(STROKES.get(part, part) for part in plain))
    return "".join(_SIGNS.get(part, part) for part in plain).casefold()


_FOLDED = _Folded()


class _InPlace(dict[int, str]):
    """As `_FOLDED`, but for the characters that it begins with. For one text."""

    def __missing__(self, code: int) -> str:
        folded = self[code] = _FOLDED[code]
        return folded


def _certainly_posing(text: str) -> list[Edit]:
    """As `_posing`, but a word of nothing but look-alikes is one only in a text that mixes alphabets within words.

    Where two words do so, short words are taken for disguises too.
    """
    words = list(_WORD.finditer(text))
    edits = _posing(words, mixed=3, whole=None)
    if not edits:
        return edits
    return _posing(words, mixed=3, whole=3) if len(edits) == 1 else _posing(words, mixed=1, whole=1)


def _posing(words: Sequence[re.Match[str]], *, mixed: int, whole: int | None) -> list[Edit]:
    """Letters of other alphabets that pose as Latin ones, word by word.

    `mixed` is the fewest letters of a disguised word that has Latin letters, `whole` of one that has none.
    """
    edits: list[Edit] = []
    for index, match in enumerate(words):
        word = match[0]
        if word.isascii():
            continue
        kinds = word.translate(_KINDS)
        if "o" in kinds:
            continue
        alike, similar, latin = kinds.count("l"), kinds.count("s"), kinds.count("a")
        if latin:
            # Few letters with a Greek one among them are a formula.
            fewest = max(mixed, 5) if _GREEK.search(word) is not None else mixed
            poses = alike + similar > 0 and latin + alike >= similar and latin + alike + similar >= fewest
        else:
            neighbours = [words[at][0] for at in (index - 1, index + 1) if 0 <= at < len(words)]
            poses = whole is not None and not similar and alike >= whole and _are_latin(neighbours)
        if poses:
            edits.append(Edit(*match.span(), "".join(LOOKALIKE.get(c) or SIMILAR.get(c) or c for c in word)))
    return edits


class _Kinds(dict[int, str]):
    """What a character is: (a) Latin, (l)ook-alike, (s)imilar, (o)ther letter, or a blank for what is no letter."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if character in LOOKALIKE or character in SIMILAR:
            kind = "l" if character in LOOKALIKE else "s"
        elif character in STYLED or (character.isascii() and character.isalpha()):
            kind = "a"
        else:
            kind = "o" if character.isalpha() else " "
        if len(self) < _MOST_REMEMBERED:
            self[code] = kind
        return kind


_KINDS = _Kinds()


def _are_latin(words: Sequence[str]) -> bool:
    """Whether none of them is in another alphabet and one of them has Latin letters."""
    kinds = "".join(words).translate(_KINDS)
    return "a" in kinds and "s" not in kinds


_LATIN = "A-Za-zÀ-ÖØ-öø-ÿ"
_INSIDE = re.compile(f"(?<=[{_LATIN}])[{_INVISIBLE}]+(?=[{_LATIN}])")
_BESIDE = re.compile(f"(?<=[\\x20-\\x7e])[{_INVISIBLE}]+|[{_INVISIBLE}]+(?=[\\x20-\\x7e])")
_MARK_EACH = re.compile(f"[{_MARKS}]")
# Tags after a black flag are the flags of England, Scotland and Wales. In other places they are not seen and not meant.
_TAGS = re.compile("(?<!\U0001f3f4)(?<![\U000e0000-\U000e0fff])[\U000e0000-\U000e0fff]+|[\x00-\x08\x0e-\x1f\x7f]+")
_HEAP = re.compile(f"(?<=[^\\W\\d])(?:[{_MARKS}]{{3,}}|[{_MARKS}]*[\u0334-\u0338\u0489\u20d0-\u20df][{_MARKS}]*)")
_STYLED_WORD = re.compile("[A-Za-z" + "".join(STYLED) + "]+")
_LONE_REGIONAL = re.compile("(?<![\U0001f1e6-\U0001f1ff])[\U0001f1e6-\U0001f1ff](?![\U0001f1e6-\U0001f1ff])")
_ASCII_LETTER = re.compile("[A-Za-z]")
_EAST_ASIAN = re.compile("[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7a3]")
_WIDE_SIGNS = {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
_RAISED = re.compile("[\u02b0-\u02ff\u1d2c-\u1d6a\u2070-\u209f]")
_ORDINARY_STYLE = frozenset("\u212b\u212a\u2102\u210d\u2115\u2119\u211a\u211d\u2124ªº")


def for_classifier(text: str) -> str:
    """The text with its disguises undone. Ordinary text is returned unchanged."""
    if len(text) > MOST:
        return for_classifier(text[:END]) + text[END:-END] + for_classifier(text[-END:])
    if not text.isascii():
        text = _undisguised(text)
    hints = HINTS(text)
    if "control" in hints:
        text = _ASCII_CONTROL.sub("", text)
        hints = HINTS(text)
    steps = _Steps(text)
    if "apart" in hints or "dotted" in hints:
        steps.edit(spaced_edits(text))
    if "leet" in hints or "apart" in hints:
        steps.edit(leet_edits(steps.text))
    return steps.text


def _undisguised(text: str) -> str:
    hints = _UNICODE_HINTS(text)
    if "dropped" in hints:
        text = _without_hidden(text)
    if "regional" in hints:
        text = _LONE_REGIONAL.sub(lambda match: REGIONAL[match[0]], text)
    if "styled" in hints:
        styled = sum(text.count(character) for character in STYLED.keys() & set(text))
        letters = styled + len(_ASCII_LETTER.findall(text))
        alone = 1 if styled >= 8 and styled > 0.3 * letters and _EAST_ASIAN.search(text) is None else 4
        text = _STYLED_WORD.sub(lambda match: _plain_style(match, alone), text)
        if alone == 1:
            text = text.translate(_WIDE_SIGNS)
    if "foreign" in hints and "latin" in hints:
        steps = _Steps(text)
        steps.edit(_certainly_posing(text))
        text = steps.text
    return text


def _without_hidden(text: str) -> str:
    text = _HEAP.sub("", _TAGS.sub("", text))
    text, inside = _INSIDE.subn("", text)
    if inside:
        # Where they split words they are no joints of emoji and no marks of direction either.
        text = _BESIDE.sub("", text)
    # What Unicode itself would write as one letter is spelling, not decoration.
    composed = unicodedata.normalize("NFC", text)
    if len(_MARK_EACH.findall(composed)) > 0.3 * sum(map(str.isalpha, composed)):
        text = unicodedata.normalize("NFC", _MARK.sub("", unicodedata.normalize("NFD", text)))
    return text


def _plain_style(match: re.Match[str], alone: int) -> str:
    """A word in a style, unless it is a formula or a raised ending. `alone`: the fewest letters of one in one style."""
    word = match[0]
    if word.isascii():
        return word
    styled = sum(character in STYLED and character not in _ORDINARY_STYLE for character in word)
    mixed = styled < len(word) and len(word) > 3 and _RAISED.search(word) is None
    if styled < alone and not mixed:
        return word
    text, at = match.string, match.start()
    # Phonetic script has letters of its own beside those of small capitals.
    around = text[at - 1 : at] + text[match.end() : match.end() + 1]
    if any(character.isalpha() or character in "ˈˌː" for character in around):
        return word
    return "".join(STYLED.get(character, character) for character in word)
