"""Phone numbers, by the library that Android and others use for them (Google's libphonenumber).

The library says what a number of a country is; of a run of digits in prose, almost everything is a number of some
country. So a number without a country code has to be written as one, too: as they are in North America or India, with
the leading 0 of most of the world, or next to a word such as "phone".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import phonenumbers
import re2

from services.moderation.rules.candidate import Candidate, Span

REGIONS = ("US", "GB", "FR", "DE", "CH", "ES", "IT", "NL", "AT", "SE", "PL", "DK", "NO", "IN", "AU", "BR", "ZA", "JP")
"""Whose national numbers are known. With a country code, those of all countries are."""

_LOOSE = frozenset({"AT", "DE", "IT", "JP"})
"""Those where almost any digits behind a 0 are a number."""

_NUMBER = 40
"""Characters that a number takes at most. Of a candidate of twice as many, the last ones are looked at again."""

_MOST_GROUPS = 7

_GROUP = re.compile(r"\d+")
_EXTENSION = re.compile(r"(?i) ?(?:x|ext\.?|extension|#) ?\d{1,6}(?!\d)")
_GLUE = frozenset("-.+/*#$\u20ac\u00a3%_^~\\=&")
_JOINING = _GLUE - frozenset("=\\/")
_OTHER = re.compile(
    r"\d{1,2}([-./ ])\d{1,2}\1(?:19|20)?\d\d(?!\1?\d)|(?:19|20)\d\d([-./ ])\d{1,2}\2\d{1,2}(?!\2?\d)"  # dates
    r"|\d{3}-\d\d-\d{4}$"  # social security numbers
    r"|97[89][- ]?\d"  # books
    r"|\d+\.\d+$|.*[ .]{2}"  # decimals, columns
)
_NORTH_AMERICA = re.compile(r"(?:1[ .-])?(\()?[2-9]\d\d(?(1)\)[ .-]?|([ .-]))\d{3}[ .-]?\d{4}")
_INDIA = re.compile(r"[6-9]\d{4} \d{5}")
_LOCAL = re.compile(r"[2-9]\d\d[ -]\d{4}")
_THOUSANDS = re.compile(r"\d{1,3}(?:[ .]\d{3})*[ .]000")
_FOURS = re.compile(r"(?<!\d)\d{4}[ -]\d{4}[ -]\d{4}(?!\d)")
_PLAIN = str.maketrans("\u2010\u2011\u2012\u2013\u00a0\u2009\u202f\uff0b", "----   +")


def phone(candidate: Candidate) -> Span | None:
    """The first phone number in a run of digits, which may have a word before or behind it that says what it is."""
    text = _ascii(candidate.text)
    first = _GROUP.search(text)
    if first is None:
        return None
    start = _opened(text, first.start(), 0)
    labelled = text[-1].isalpha()
    for place, group in enumerate(groups := list(_GROUP.finditer(text, first.start()))):
        begin = _opened(text, group.start(), start)
        if place and len(text) > 2 * _NUMBER and begin > len(text) - _NUMBER:
            return begin, begin
        before = text[begin - 1] if begin else candidate.before
        named = labelled or (place == 0 and start > 0)
        for number_start, end in _parts(text, begin, groups[place : place + _MOST_GROUPS]):
            if _is_number(text[number_start:end], before=before, named=named):
                extension = _EXTENSION.match(text, end)
                return number_start, end if extension is None else extension.end()
    return len(text), len(text)


def _ascii(text: str) -> str:
    """The same with ASCII digits, dashes and spaces, each in its place."""
    if text.isascii():
        return text
    return "".join(str(int(sign)) if sign.isdecimal() else sign for sign in text.translate(_PLAIN))


def _opened(text: str, start: int, least: int) -> int:
    """Where a number begins whose first digit is at `start`: before its `+` and its bracket."""
    while start > least and text[start - 1] in "+(":
        start -= 1
    if start > least + 1 and text[start - 2 : start] == "+ ":
        start -= 2
    return start


def _parts(text: str, start: int, groups: Sequence[re.Match[str]]) -> Iterator[Span]:
    """The groups of digits from `start`, and what remains of them without the last ones, the longest first."""
    digits = 0
    ends: list[int] = []
    for place, group in enumerate(groups):
        length = group.end() - group.start()
        digits += length
        if digits > 17 or (length == 1 and place > 2):
            break
        if digits >= 7 and not _goes_on(text, group.end()):
            ends.append(group.end())
    for end in reversed(ends):
        yield start + (text[start] == "(" and ")" not in text[start:end]), end


def _goes_on(text: str, end: int) -> bool:
    """Whether what stands before `end` is only the beginning of something in one piece, or of groups of four."""
    if text[end : end + 1] in _GLUE and text[end + 1 : end + 2].isdigit():
        return True
    return end >= 9 and _FOURS.match(text, end - 9) is not None


def _is_number(number: str, *, before: str, named: bool) -> bool:
    bare = number.lstrip("(")
    if bare.startswith("+"):
        return _is_international(number)
    if before in _JOINING or before.isdigit() or _OTHER.match(number):
        return False
    digits = "".join(_GROUP.findall(number))
    if digits.startswith("00") and len(digits) > 10 and _is_international(digits[2:]):
        return True
    return _is_national(number, named=named)


def _is_international(number: str) -> bool:
    """Whether it has a country code, and as many digits as numbers have there."""
    digits = "".join(_GROUP.findall(number.replace("(0)", "")))
    try:
        parsed = phonenumbers.parse(f"+{digits}", None)
    except phonenumbers.NumberParseException:
        return False
    return phonenumbers.is_possible_number_with_reason(parsed) == phonenumbers.ValidationResult.IS_POSSIBLE


def _is_national(number: str, *, named: bool) -> bool:
    groups = _GROUP.findall(number)
    digits = "".join(groups)
    if _NORTH_AMERICA.fullmatch(number):
        return any(sign in number for sign in "-.)") or _is_valid(digits, _US)
    if _INDIA.fullmatch(number):
        return _is_valid(digits, _IN)
    if len(digits) > 12 or _is_other(number, groups):
        return False
    if named:
        return _LOCAL.fullmatch(number) is not None or (
            _THOUSANDS.fullmatch(number) is None and _is_valid(digits, _KNOWN)
        )
    if digits[0] != "0" or len(digits) < 9:
        return False
    return _is_valid(digits, _KNOWN) if len(groups) > 1 else not _is_book(digits) and _is_valid(digits, _STRICT)


def _is_book(digits: str) -> bool:
    """Whether they have the check digit of an ISBN-10."""
    return len(digits) == 10 and sum(place * int(digit) for place, digit in enumerate(reversed(digits), 1)) % 11 == 0


def _is_other(number: str, groups: Sequence[str]) -> bool:
    """Whether it looks like a stretch of a card or bank account number, the number of a book, or decimals."""
    if len(groups) == 1:
        return False
    fours = len(groups) > 2 and len(groups[0]) == len(groups[1]) == 4
    return fours or len(groups[0]) > 5 or len(groups[-1]) == 1 or ("." in number and " " in number)


def _is_valid(digits: str, forms: _Forms) -> bool:
    return forms.any.fullmatch(digits) is not None and any(
        form.fullmatch(digits) is not None and _is_valid_in(region, digits) for region, form in forms.of_regions
    )


def _is_valid_in(region: str, digits: str) -> bool:
    try:
        return phonenumbers.is_valid_number_for_region(phonenumbers.parse(digits, region), region)
    except phonenumbers.NumberParseException:
        return False


@dataclass(frozen=True, slots=True)
class _Forms:
    """The library's own patterns, in one expression: refuses in a microsecond what the library takes hundreds for."""

    any: re2._Regexp
    of_regions: tuple[tuple[str, re2._Regexp], ...]


def _forms(*regions: str) -> _Forms:
    sources = [(region, _source(region)) for region in regions]
    return _Forms(
        any=re2.compile("|".join(source for _, source in sources)),
        of_regions=tuple((region, re2.compile(source)) for region, source in sources),
    )


def _source(region: str) -> str:
    metadata = phonenumbers.PhoneMetadata.metadata_for_region(region)
    if metadata is None:
        raise ValueError(f"no such region of phone numbers: {region}")
    kinds = (
        metadata.fixed_line,
        metadata.mobile,
        metadata.toll_free,
        metadata.premium_rate,
        metadata.shared_cost,
        metadata.personal_number,
        metadata.voip,
        metadata.uan,
    )
    numbers = "|".join(kind.national_number_pattern for kind in kinds if kind and kind.national_number_pattern)
    return f"(?:(?:{metadata.national_prefix or ''})?(?:{numbers}))"


_KNOWN = _forms(*REGIONS)
_STRICT = _forms(*(region for region in REGIONS if region not in _LOOSE))
_US = _forms("US")
_IN = _forms("IN")
