from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.moderation.rules.candidate import Candidate
from services.moderation.rules.checks import CHECKS, card, email, iban, ip, luhn, mixed, us_ssn
from services.moderation.rules.entropy import is_random, is_strong_password, is_token


@pytest.mark.parametrize("number", ["4111 1111 1111 1111", "378282246310005", "6011-0009-9013-9424", "79927398713"])
def test_luhn_takes_valid_numbers(number: str) -> None:
    assert luhn(number)


@pytest.mark.parametrize("number", ["4111 1111 1111 1112", "0000 0000 0000 0000", "7", "", "79927398710"])
def test_luhn_refuses_others(number: str) -> None:
    assert not luhn(number)


@given(digits=st.lists(st.integers(0, 9), min_size=12, max_size=18), at=st.integers(0, 17), by=st.integers(1, 9))
def test_luhn_sees_every_single_wrong_digit(digits: list[int], at: int, by: int) -> None:
    number = "".join(map(str, digits))
    check = next(str(digit) for digit in range(10) if luhn(number + str(digit)) or not any(digits))
    complete = number + check
    if any(digits):
        at %= len(complete)
        wrong = complete[:at] + str((int(complete[at]) + by) % 10) + complete[at + 1 :]
        assert luhn(complete)
        assert not luhn(wrong)


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("4111111111111111", 16),
        ("4111 1111 1111 1111", 19),
        ("4111-1111-1111-1111 12/27 123", 19),
        ("4111111111111111 123", 16),
        ("4111 - 1111 - 1111 - 1111", 25),
        ("3782-822463-10005", 17),
        ("30569309025904", 14),
        ("5019717010103742".replace("5019", "5018"), None),
        ("٤١١١ ١١١١ ١١١١ ١١١١", 19),
        ("４１１１１１１１１１１１１１１１", 16),
        ("4111 1111 1111 1112", None),
        ("41 11 11 11 11 11 11 11", None),
        ("9999 9999 9999 9995", None),
        ("4111111111111111.5", None),
    ],
)
def test_card_finds_the_number_in_the_run(text: str, end: int | None) -> None:
    part = card(Candidate(text))
    assert part is not None
    assert part == (0, end) if end else part[0] == part[1]


def test_the_digits_behind_a_decimal_point_are_no_card() -> None:
    assert card(Candidate("4111111111111111", before=":")) == (0, 16)
    assert card(Candidate("4111111111111111", before=".")) == (16, 16)
    assert card(Candidate("4111111111111111", before="٤")) == (16, 16)


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("GB82 WEST 1234 5698 7654 32", 27),
        ("GB82WEST12345698765432", 22),
        ("gb82 west 1234 5698 7654 32 is my", 27),
        ("DE89 3704 0044 0532 0130 00", 27),
        ("NO93 8601 1117 947", 18),
        ("MT84MALT011000012345MTLCAST001S", 31),
        ("GB82 WEST 1234 5698 7654 33", None),
        ("GB82 WEST 1234 5698 7654 321", None),
        ("GB82 WEST 1234 5698", None),
        ("ZZ82 WEST 1234 5698 7654 32", None),
    ],
)
def test_iban_takes_the_length_of_its_country_and_the_right_remainder(text: str, end: int | None) -> None:
    assert iban(Candidate(text)) == (None if end is None else (0, end))


@given(at=st.integers(0, 21), by=st.integers(1, 9))
def test_iban_sees_every_single_wrong_digit(at: int, by: int) -> None:
    text = "GB82WEST12345698765432"
    if text[at].isdigit():
        wrong = text[:at] + str((int(text[at]) + by) % 10) + text[at + 1 :]
        assert iban(Candidate(wrong)) is None


@pytest.mark.parametrize("number", ["123-45-6789", "001-01-0001", "899-99-9999", "123 45 6789", "123456789"])
def test_ssn_takes_what_can_be_issued(number: str) -> None:
    assert us_ssn(number)


@pytest.mark.parametrize("number", ["000-12-3456", "666-12-3456", "900-12-3456", "123-00-4567", "123-45-0000"])
def test_ssn_refuses_what_cannot(number: str) -> None:
    assert not us_ssn(number)


def test_ssn_is_not_a_part_of_a_longer_number() -> None:
    check = CHECKS["us_ssn"]
    assert check(Candidate("123-45-6789", before=" ", after=".")) == (0, 11)
    assert check(Candidate("123-45-6789", before="-")) is None
    assert check(Candidate("123-45-6789", after="-")) is None


def test_ssn_without_dashes_is_the_number_behind_the_word() -> None:
    assert CHECKS["us_ssn_named"](Candidate("SSN: 123 45 6789")) == (5, 16)
    assert CHECKS["us_ssn_named"](Candidate("social security number is 123456789")) == (26, 35)
    assert CHECKS["us_ssn_named"](Candidate("SSN: 000 45 6789")) is None


@pytest.mark.parametrize(
    ("text", "after", "taken"),
    [
        ("a.b+c@example.org", "", True),
        ("müller@exämple.de", "", True),
        ("git@github.com", ":", False),
        ("git@github.com", "", True),
        ("icon@2x.png", "", False),
        ("a..b@example.org", "", False),
        ("x" * 65 + "@example.org", "", False),
    ],
)
def test_email(text: str, after: str, taken: bool) -> None:
    assert email(Candidate(text, after=after)) == ((0, len(text)) if taken else (len(text), len(text)))


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("41.173.96.26", True),
        ("6e40:4041:c617:e898:c11:40d2:c669:2eb4", True),
        ("2a00:1450::8a", True),
        ("192.168.0.1", False),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("255.255.255.0", False),
        ("1.2.3.400", False),
        ("10:30:45", False),
        ("aa:bb:cc:dd:ee:ff", False),
    ],
)
def test_ip_takes_addresses_that_somebody_can_have(text: str, taken: bool) -> None:
    assert (ip(Candidate(text)) is not None) is taken
    assert ip(Candidate(text, before=".")) is None


def test_mixed_tells_tokens_from_names() -> None:
    assert mixed("sk-abcDEF0123456789")
    assert not mixed("sk-folding-cube-container-inner")


@pytest.mark.parametrize("text", ["sk-abcDEF0123456789abcdef", "dapi" + "3f8a1c9e" * 4])
def test_token_takes_what_is_random(text: str) -> None:
    assert is_token(text)


@pytest.mark.parametrize(
    "text", ["ghp_" + "x" * 36, "sk-folding-cube-container-inner", "sk-learn-tutorial-2024-notebook", "hf_" + "0" * 34]
)
def test_token_refuses_what_stands_in_its_place(text: str) -> None:
    assert not is_token(text)


@pytest.mark.parametrize(
    "value", ["q8Zt3Lw9Xk2Vb7Nm4Rp6", "9f86d081884c7d659a2feaa0c55ad015", "Zm9vL2Jhcis0MnFVeFQ5cA=="]
)
def test_random_values(value: str) -> None:
    assert is_random(value)


@pytest.mark.parametrize(
    "value",
    [
        "YOUR_API_KEY_GOES_HERE_12",
        "<your-token-goes-here-1>",
        "${SECRET_FROM_VAULT_1}",
        "process.env.API_KEY_2",
        "xxxxxxxxxxxxxxxxxxxxxxxx",
        "my-service-account-key-2024",
        "correcthorsebatterystaple1",
        "550e8400-e29b-41d4-a716-446655440000",
        "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "AKIAIOSFODNN7EXAMPLE",
        "short1",
        "",
    ],
)
def test_values_that_stand_for_something_else(value: str) -> None:
    assert not is_random(value)


def test_strong_passwords() -> None:
    assert is_strong_password("Tr0ub4dor&3!")
    assert not is_strong_password("db.Column")
    assert not is_strong_password("Password1!")
    assert not is_strong_password("hunter2")


@given(text=st.text(max_size=80), before=st.text(max_size=1), after=st.text(max_size=1))
def test_any_candidate_has_an_answer_inside_of_it(text: str, before: str, after: str) -> None:
    """Whatever a pattern of somebody's own policy lets through to a check."""
    for name in ("email", "high_entropy", "ip", "luhn", "mixed", "token", "card", "iban"):
        part = CHECKS[name](Candidate(text, before, after))
        assert part is None or 0 <= part[0] <= part[1] <= len(text), name


@given(
    text=st.text(alphabet="0123456789 ()+-./x٣３\u2010", min_size=1, max_size=120), label=st.sampled_from(["", " fax"])
)
def test_any_run_of_digits_has_an_answer_inside_of_it(text: str, label: str) -> None:
    for name in ("phone", "us_ssn", "us_ssn_named", "card"):
        part = CHECKS[name](Candidate(text + label))
        assert part is None or 0 <= part[0] <= part[1] <= len(text + label), name
