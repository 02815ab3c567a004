from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.moderation.checks import luhn, mixed, us_ssn


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


@pytest.mark.parametrize("number", ["123-45-6789", "001-01-0001", "899-99-9999"])
def test_ssn_takes_what_can_be_issued(number: str) -> None:
    assert us_ssn(number)


@pytest.mark.parametrize("number", ["000-12-3456", "666-12-3456", "900-12-3456", "123-00-4567", "123-45-0000"])
def test_ssn_refuses_what_cannot(number: str) -> None:
    assert not us_ssn(number)


def test_mixed_tells_tokens_from_names() -> None:
    assert mixed("sk-abcDEF0123456789")
    assert not mixed("sk-folding-cube-container-inner")
