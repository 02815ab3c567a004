"""Checks of what a pattern found: number schemes that a pattern alone cannot tell from any other number."""

from __future__ import annotations

from collections.abc import Callable, Mapping

_LUHN_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


def luhn(text: str) -> bool:
    """Whether the digits of `text` have a correct Luhn check digit (ISO/IEC 7812-1). Other characters are skipped."""
    digits = [int(character) for character in text if character in "0123456789"]
    total = sum(digits[-1::-2]) + sum(_LUHN_DOUBLED[digit] for digit in digits[-2::-2])
    return len(digits) > 1 and any(digits) and total % 10 == 0


def us_ssn(text: str) -> bool:
    """Whether `AAA-GG-SSSS` can have been issued: no area 000, 666 or 9xx, no group 00, no serial 0000."""
    area, group, serial = text[:3], text[-7:-5], text[-4:]
    return area not in ("000", "666") and area[0] != "9" and group != "00" and serial != "0000"


def mixed(text: str) -> bool:
    """Whether `text` has digits and letters of both cases, as random tokens do and names in code do not."""
    return (
        any(character.isdigit() for character in text)
        and any(character.isupper() for character in text)
        and any(character.islower() for character in text)
    )


CHECKS: Mapping[str, Callable[[str], bool]] = {"luhn": luhn, "us_ssn": us_ssn, "mixed": mixed}
"""The checks by the names that the policy uses."""
