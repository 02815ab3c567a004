"""Page tokens: they lead back to their position, for the list they came from and no other."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.errors import DomainError, Reason
from services.runtime.paging import decode_page_token, encode_page_token

positions = st.lists(st.text(max_size=20) | st.integers(), max_size=4)
scopes = st.lists(st.text(max_size=20), max_size=4)


def everything(*values: str | int) -> list[str | int]:
    return list(values)


@given(positions, scopes)
def test_a_token_leads_back(position: list[str | int], scope: list[str]) -> None:
    token = encode_page_token(position, scope=scope)
    assert decode_page_token(token, scope=scope, read=everything) == position
    assert token.replace("-", "").replace("_", "").isalnum()


@given(positions, scopes, scopes)
def test_it_is_refused_by_any_other_list(position: list[str | int], one: list[str], two: list[str]) -> None:
    if one == two:
        return
    with pytest.raises(DomainError) as refused:
        decode_page_token(encode_page_token(position, scope=one), scope=two, read=everything)
    assert refused.value.reason is Reason.INVALID_PAGE_TOKEN


@given(
    st.text(min_size=1, max_size=60) | st.binary(min_size=1, max_size=60).map(lambda b: base64.b64encode(b).decode())
)
def test_whatever_a_client_invents_is_refused(token: str) -> None:
    with pytest.raises(DomainError) as refused:
        decode_page_token(token, scope=["x"], read=everything)
    assert refused.value.reason is Reason.INVALID_PAGE_TOKEN


@pytest.mark.parametrize("position", [["x"], [], [1, 2]])
def test_a_position_that_is_none(position: list[str | int]) -> None:
    with pytest.raises(DomainError):
        decode_page_token(encode_page_token(position, scope=["x"]), scope=["x"], read=lambda value: int(value))


def test_deeply_nested() -> None:
    token = base64.urlsafe_b64encode(b"[" * 100_000).decode()
    with pytest.raises(DomainError) as refused:
        decode_page_token(token, scope=["x"], read=everything)
    assert len(refused.value.metadata["page_token"]) == 64


def test_no_token_is_the_first_page() -> None:
    assert decode_page_token("", scope=["x"], read=everything) is None
