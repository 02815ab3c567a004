"""The search for attacks by their wording: in a text as it is read, and in what it says in encodings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import re2

from services.moderation.attacks.pattern_file import (
    PACKAGED_PATTERNS,
    Family,
    ManyShotEntry,
    Origin,
    PatternEntry,
    PatternFile,
    compile_expression,
    expand,
    options,
)
from services.moderation.attacks.reading import Reading
from services.moderation.text.normalise import normalise
from services.runtime.typed_file import load_typed_file

_MOST_MATCHES = 4
"""Findings of one pattern in one text."""

_MOST_TRIED = 32
"""Matches of one pattern that are weighed."""

_AROUND = 60
"""Characters before and after a match that `unless_before` and `unless_after` see."""

_INVISIBLE = frozenset(("tags", "variation_selectors"))


@dataclass(frozen=True, slots=True)
class AttackFinding:
    """A wording of an attack in `[start, end)` of the text, in code points.

    `encoding` is empty where the text itself says it; else the whole encoded part is the range.
    """

    family: Family
    name: str
    start: int
    end: int
    encoding: str


class AttackPatterns:
    """The patterns of a file, compiled."""

    def __init__(self, file: PatternFile) -> None:
        self.version = file.version
        self._mention = _Mention(file.mention.words, file.mention.characters)
        patterns = [_Pattern(entry, family, file) for family, entries in file.patterns.items() for entry in entries]
        many = [_ManyShot(entry) for entry in file.many_shot]
        self._searches = {
            origin: _Search(
                [pattern for pattern in patterns if origin in pattern.entry.origins],
                [shots for shots in many if origin in shots.entry.origins],
            )
            for origin in Origin
        }

    @classmethod
    def load(cls, path: Path | None = None) -> AttackPatterns:
        """Read and compile a file of patterns; None for the one that comes with the service.

        Raises:
            SettingsError: naming the file, the pattern, and what is wrong with it.
        """
        return cls(load_typed_file(path or PACKAGED_PATTERNS, PatternFile, kind="attack patterns"))

    def find(self, text: str | Reading, *, origin: Origin) -> list[AttackFinding]:
        """The attacks in a text, by where they begin. The time is linear in the text."""
        search = self._searches[origin]
        reading = text if isinstance(text, Reading) else Reading(text)
        normalised = reading.normalised
        findings = [
            AttackFinding(family, name, *normalised.span(start, end), "")
            for family, name, start, end in search.run(normalised.text, self._mention)
        ]
        for part in reading.decoded:
            if part.encoding in _INVISIBLE and origin is Origin.UNTRUSTED:
                finding = (Family.HIDDEN_INSTRUCTIONS, "invisible_text", part.start, part.end, part.encoding)
                findings.append(AttackFinding(*finding))
            findings += (
                AttackFinding(family, name, part.start, part.end, part.encoding)
                for family, name, _, _ in search.run(normalise(part.text).text, self._mention)
            )
        # A text that decodes in several ways, or says a thing twice in an encoding, says it once.
        return sorted(dict.fromkeys(findings), key=lambda finding: (finding.start, finding.end, finding.name))


class _Text:
    """A normalised text as bytes, with the way back to code points."""

    __slots__ = ("_ascii", "data", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.data = text.encode(errors="replace")
        self._ascii = len(self.data) == len(text)

    def code_points(self, at: int) -> int:
        return at if self._ascii else len(self.data[:at].decode())


class _Pattern:
    def __init__(self, entry: PatternEntry, family: Family, file: PatternFile) -> None:
        self.entry = entry
        self.family = family
        self.source = expand(entry.pattern, file.vocabulary)
        self._whole = compile_expression(self.source)
        self._near = _optional(entry.near, "{}", file)
        self._before = _optional(entry.unless_before, "(?:{})", file)
        self._after = _optional(entry.unless_after, "(?:{})", file)
        self._reach = file.near_characters

    def find(self, text: _Text, mention: _Mention) -> Iterator[tuple[int, int]]:
        at = found = 0
        for _ in range(_MOST_TRIED):
            match = self._whole.search(text.data, at)
            if match is None:
                return
            start, end = match.span()
            at = max(end, start + 1)
            span = text.code_points(start), text.code_points(end)
            if self._counts(text.text, *span) and not mention.explains(text.text, *span):
                yield span
                found += 1
                if found == _MOST_MATCHES:
                    return

    def _counts(self, text: str, start: int, end: int) -> bool:
        if self._near is not None:
            around = text[max(0, start - self._reach) : end + self._reach]
            if self._near.search(around.encode(errors="replace")) is None:
                return False
        if self._before is not None:
            before = text[max(0, start - _AROUND) : start]
            if self._before.search(before.encode(errors="replace")) is not None:
                return False
        if self._after is not None:
            return self._after.search(text[end : end + _AROUND].encode(errors="replace")) is None
        return True


def _optional(text: str | None, form: str, file: PatternFile) -> re2._Regexp | None:
    return None if text is None else compile_expression(form.format(expand(text, file.vocabulary)))


class _Mention:
    """Tells speaking about an attack from making it."""

    def __init__(self, words: str, reach: int) -> None:
        self._words = compile_expression(expand(words, {}))
        self._reach = reach

    def explains(self, text: str, start: int, end: int) -> bool:
        before = text[max(0, start - self._reach) : start]
        after = text[end : end + self._reach]
        line = before[before.rfind("\n") + 1 :]
        if line.count('"') % 2 or line[-1:] in ("'", "`"):
            return self._has_words(before) or self._has_words(after)
        sentence = line[max(line.rfind(sign) for sign in ".!?") + 1 :]
        ends = [place for sign in ".!?\n" if (place := after.find(sign)) >= 0]
        return bool(ends) and after[min(ends)] == "?" and self._has_words(sentence)

    def _has_words(self, text: str) -> bool:
        return self._words.search(text.encode(errors="replace")) is not None


class _ManyShot:
    def __init__(self, entry: ManyShotEntry) -> None:
        self.entry = entry
        self.source = _marker(entry.markers)
        self._markers = compile_expression(self.source)
        self._answers = compile_expression(_marker(entry.answers))

    def find(self, text: _Text) -> tuple[int, int] | None:
        """From the first marker to the last answer, where there are enough pairs."""
        starts = [match.start() for match in self._markers.finditer(text.data)]
        ends = [match.end() for match in self._answers.finditer(text.data)]
        if min(len(starts), len(ends)) < self.entry.least:
            return None
        return text.code_points(starts[0]), text.code_points(max(ends[-1], starts[0]))


def _marker(words: str) -> str:
    return rf"(?:^|[\n.!?\"'] ?|\| ?)[#*<\[]{{0,3}}(?:{words})[ #]?\d{{0,3}}[#*>\]]{{0,3}} ?[:)>]"


class _Search:
    """The patterns for one origin.

    One pass over the text looks for the words without which a pattern cannot match; what is left, few for ordinary
    text, is searched for by itself. A single automaton of all patterns has states so large that its cache overflows,
    and what it then has to build again for a text takes milliseconds.
    """

    def __init__(self, patterns: Sequence[_Pattern], many: Sequence[_ManyShot]) -> None:
        self._patterns = patterns
        self._many = many
        self._filter = re2.Filter()
        for source in (*(pattern.source for pattern in patterns), *(shots.source for shots in many)):
            self._filter.Add(source.encode(), options())
        self._filter.Compile()

    def run(self, text: str, mention: _Mention) -> Iterator[tuple[Family, str, int, int]]:
        encoded = _Text(text)
        for index in self._filter.Match(encoded.data, potential=True) or ():
            if index < len(self._patterns):
                pattern = self._patterns[index]
                for start, end in pattern.find(encoded, mention):
                    yield pattern.family, pattern.entry.name, start, end
            else:
                shots = self._many[index - len(self._patterns)]
                if (span := shots.find(encoded)) is not None:
                    yield Family.MANY_SHOT, shots.entry.name, *span
