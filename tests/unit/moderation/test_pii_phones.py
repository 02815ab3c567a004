from __future__ import annotations

import pytest

from services.moderation.rules.candidate import Candidate
from services.moderation.rules.phones import phone


def found(text: str, before: str = "") -> str:
    part = phone(Candidate(text, before))
    assert part is not None
    return text[part[0] : part[1]]


@pytest.mark.parametrize(
    "number",
    [
        "+1 (202) 261-5006",
        "+12022615006",
        "+44 20 7946 0958",
        "+33 6 75 99 72 18",
        "+46 (0)8 928 571 38",
        "+91 92321 72522",
        "001-518-640-0854",
        "(626) 364-7382",
        "(602)272-9781",
        "415-555-0132",
        "729.508.0657",
        "1-800-273-8255",
        "345-899-3560x4587",
        "+1-903-140-4508 ext. 769",
        "07700 063 966",
        "07700900123",
        "06 12 34 56 78",
        "0341 8387176",
        "98765 43210",
    ],
)
def test_numbers_as_they_are_written(number: str) -> None:
    assert found(number) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("Phone: 699 956 915", "699 956 915"),
        ("number is 4155550132", "4155550132"),
        ("call me at 467 3395", "467 3395"),
        ("416 60 039 office", "416 60 039"),
        ("(415-555-0132", "415-555-0132"),
        ("415-555-0132 2024", "415-555-0132"),
        ("12 415-555-0132", "415-555-0132"),
        ("+1 202 261 5006 2024", "+1 202 261 5006"),
    ],
)
def test_only_the_number_is_found(text: str, number: str) -> None:
    assert found(text) == number


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-04 12",
        "06-01-2024",
        "01.02.2024",
        "2024/05/06",
        "123-45-6789",
        "1737266538358",
        "4029357733",
        "978-5-2423-2123-1",
        "0231130104",
        "3.14159265358",
        "0.28765103",
        "-33.204675",
        "4111 1111 1111 1111",
        "5134-8165-7382-9816",
        "699 956 915",
        "1 000 000 000",
        "12 345 678",
        "2113-319563",
        "+999 123 456 789",
        "10 12 14 16 18 20",
        "1 2 3 4 5 6 7 8 9 0",
        "0-306-40615-2",
        "0.1234 0.5678",
        "05.04.2023-06.05.2023",
        "0063 2947 39",
        "08.30 - 17.00",
    ],
)
def test_other_numbers_are_left_alone(text: str) -> None:
    assert found(text) == ""


@pytest.mark.parametrize("before", ["-", ".", "$", "#", "_", "+"])
def test_what_is_glued_to_something_is_no_national_number(before: str) -> None:
    assert found("415-555-0132", before) == ""


@pytest.mark.parametrize("before", ["", " ", "(", ":", "=", ",", "\n", "\u05d0"])
def test_what_else_stands_before_does_not_matter(before: str) -> None:
    assert found("415-555-0132", before) == "415-555-0132"


def test_named_amounts_and_dates_are_left_alone() -> None:
    assert found("reach 1 000 000") == ""
    assert found("desk 2024-05-06") == ""


def test_digits_of_other_scripts() -> None:
    assert found("+９１ ９２３２１ ７２５２２") == "+９１ ９２３２１ ７２５２２"
    assert found("٠٧٧٠٠ ٠٦٣ ٩٦٦") == "٠٧٧٠٠ ٠٦٣ ٩٦٦"


def test_the_end_of_a_long_run_is_looked_at_again() -> None:
    text = "11 22 33 44 " * 9 + "415-555"
    part = phone(Candidate(text))
    assert part is not None
    assert part[0] == part[1]
    assert len(text) - 40 < part[0] < len(text) - 30
