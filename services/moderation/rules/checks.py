"""Checks of what a pattern found: schemes that a pattern alone cannot tell from other text.

Patterns bound how long a candidate is, so every check is bounded too, whatever the text.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise

from services.moderation.rules.candidate import Candidate, Check, Span
from services.moderation.rules.entropy import assigned_secret, is_token
from services.moderation.rules.phones import phone

_LUHN_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


def luhn(text: str) -> bool:
    """Whether the digits of `text` have a correct Luhn check digit (ISO/IEC 7812-1). Other characters are skipped."""
    digits = [int(character) for character in text if character in "0123456789"]
    total = sum(digits[-1::-2]) + sum(_LUHN_DOUBLED[digit] for digit in digits[-2::-2])
    return len(digits) > 1 and any(digits) and total % 10 == 0


_DIGITS = re.compile(r"\d+")


class _AsciiDigits(dict[int, str]):
    """The ASCII digit of a decimal digit of any script: there are a few hundred."""

    def __missing__(self, code: int) -> str:
        digit = self[code] = str(unicodedata.decimal(chr(code)))
        return digit


_ASCII_DIGITS = _AsciiDigits()

_NETWORKS: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("4", (16, 19, 13)),
    ("5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720", (16,)),
    ("3[47]", (15,)),
    ("30[0-5]|3[689]", (14,)),
    ("35", (16,)),
    ("2131|1800", (15,)),
    ("6011|64[4-9]|65|62|81|220[0-4]", (16, 19, 18, 17)),
    ("60|82|508|9792", (16,)),
    ("5018|5020|5038|5[678]|6304|6759|676[1-3]|6390", (16, 19, 18, 17, 15, 14, 13, 12)),
)
"""Beginnings of the numbers of the card networks and how long their numbers are, the usual length first."""

_MOST_CARD_DIGITS = max(length for _, lengths in _NETWORKS for length in lengths)

_GROUPINGS = frozenset({(4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3), (6, 10), (8, 8), (4, 3, 3, 3)})
"""How numbers are printed, when they are not in one piece."""

_NETWORK_LENGTHS = tuple((re.compile(beginning), lengths) for beginning, lengths in _NETWORKS)


def card(candidate: Candidate) -> Span | None:
    """The payment card number at the start of a run of digits and what people put between them.

    Digits of any script count. A number may be followed by others, such as the date until which the card is valid.
    """
    ends: dict[int, int] = {}  # digits so far -> where they end
    digits = ""
    for group in _DIGITS.finditer(candidate.text):
        digits += group.group().translate(_ASCII_DIGITS)
        ends[len(digits)] = group.end()
        if len(digits) > _MOST_CARD_DIGITS:
            break
    if not ends:
        return None
    for length in _card_lengths(digits) if not candidate.before.isdecimal() else ():
        if length in ends and _is_printed(candidate, ends, length) and luhn(digits[:length]):
            return 0, ends[length]
    # No number begins inside of a group of digits.
    return next(iter(ends.values())), next(iter(ends.values()))


def _card_lengths(digits: str) -> Iterator[int]:
    for beginning, lengths in _NETWORK_LENGTHS:
        if beginning.match(digits):
            yield from lengths


def _is_printed(candidate: Candidate, ends: Mapping[int, int], length: int) -> bool:
    """Whether the groups of digits are those in which numbers are printed."""
    edges = [0, *(digits for digits in ends if digits <= length)]
    if len(edges) > 2:
        return tuple(end - start for start, end in pairwise(edges)) in _GROUPINGS
    end = ends[length]
    decimal = candidate.text[end : end + 1] == "." and candidate.text[end + 1 : end + 2].isdigit()
    return candidate.before != "." and not decimal


_IBAN_LENGTHS: Mapping[str, int] = {
    country: int(length)
    for length, countries in {
        "15": "NO",
        "16": "BE",
        "18": "DK FI FO GL NL SD FK",
        "19": "MK SI",
        "20": "AT BA EE KZ LT LU MN XK",
        "21": "CH HR LI LV",
        "22": "BG BH CR DE GB GE IE ME RS VA",
        "23": "AE GI IL IQ OM SO TL",
        "24": "AD CZ ES MD PK RO SA SE SK TN VG",
        "25": "LY PT ST",
        "26": "IS TR",
        "27": "BI DJ FR GR IT MC MR SM",
        "28": "AL AZ BY CY DO GT HN HU LB NI PL SV",
        "29": "BR EG PS QA UA",
        "30": "JO KW MU YE",
        "31": "MT SC",
        "32": "LC",
        "33": "RU",
    }.items()
    for country in countries.split()
}
"""Characters of an IBAN by country (the IBAN registry of ISO 13616)."""


def iban(candidate: Candidate) -> Span | None:
    """The IBAN at the start: as long as its country has them, with the right remainder (mod 97 is 1)."""
    length = _IBAN_LENGTHS.get(candidate.text[:2].upper())
    if length is None:
        return None
    number = ""
    for at, character in enumerate(candidate.text):
        if not character.isalnum():
            continue
        number += character.upper()
        if len(number) == length:
            glued = candidate.text[at + 1 : at + 2].isalnum()
            value = "".join(str(int(sign, 36)) for sign in number[4:] + number[:4])
            return None if glued or int(value) % 97 != 1 else (0, at + 1)
    return None


def us_ssn(text: str) -> bool:
    """Whether `AAA-GG-SSSS` can have been issued: no area 000, 666 or 9xx, no group 00, no serial 0000."""
    digits = "".join(_DIGITS.findall(text))
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    issued = area not in ("000", "666") and not area.startswith("9") and group != "00" and serial != "0000"
    return len(digits) == 9 and issued


def us_ssn_dashed(candidate: Candidate) -> Span | None:
    """A number that stands for itself, not as a part of a longer one with dashes."""
    glued = _joins(candidate.before) or candidate.after in _DASHES
    return candidate.whole if not glued and us_ssn(candidate.text) else None


def us_ssn_named(candidate: Candidate) -> Span | None:
    """The number behind the word that says what it is."""
    number = candidate.text.rstrip("0123456789 .")
    start = len(candidate.text) - len(candidate.text[len(number) :].lstrip(" ."))
    return (start, len(candidate.text)) if us_ssn(candidate.text[start:]) else None


_DASHES = tuple("-\u2010\u2011\u2012\u2013")


def _joins(before: str) -> bool:
    return before in (*_DASHES, ".", "+", "/")


_ASSET_ENDINGS = frozenset({"png", "jpg", "jpeg", "gif", "svg", "webp", "css", "js", "ts", "py", "json", "html"})


def email(candidate: Candidate) -> Span | None:
    """An address, and not a file such as `icon@2x.png` or the user of a repository (`git@host:path`)."""
    local, _, domain = candidate.text.rpartition("@")
    unlikely = ".." in local or local.endswith(".") or len(local) > 64
    repository = local == "git" and candidate.after == ":"
    file = domain.rpartition(".")[2].lower() in _ASSET_ENDINGS
    if unlikely or repository or file:
        return len(candidate.text), len(candidate.text)
    return candidate.whole


def ip(candidate: Candidate) -> Span | None:
    """An address that can be somebody's: not one of private networks, of documentation, or of nobody."""
    text = candidate.text
    if candidate.before in (".", "-") or (":" in text and (candidate.before == ":" or not re.search(r"\d", text))):
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    nobody = address.is_private or address.is_multicast or address.is_unspecified or address.is_loopback
    return None if nobody or (address.version == 4 and address.is_reserved) else candidate.whole


def mixed(text: str) -> bool:
    """Whether `text` has digits and letters of both cases, as random tokens do and names in code do not."""
    return (
        any(character.isdigit() for character in text)
        and any(character.isupper() for character in text)
        and any(character.islower() for character in text)
    )


def _of_whole(holds: Callable[[str], bool]) -> Check:
    """The check that takes a candidate as it stands or not at all."""

    def check(candidate: Candidate) -> Span | None:
        return candidate.whole if holds(candidate.text) else None

    return check


CHECKS: Mapping[str, Check] = {
    "card": card,
    "email": email,
    "high_entropy": assigned_secret,
    "iban": iban,
    "ip": ip,
    "luhn": _of_whole(luhn),
    "mixed": _of_whole(mixed),
    "phone": phone,
    "token": _of_whole(is_token),
    "us_ssn": us_ssn_dashed,
    "us_ssn_named": us_ssn_named,
}
"""The checks by the names that the policy uses."""
