"""Files are cut into conversations by their brackets, and checked as a whole."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.conversation.transfer import import_file
from services.conversation.transfer.import_file import open_import
from services.runtime.errors import DomainError, Reason

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)
forms = st.sampled_from([{}, {"indent": 2}, {"separators": (",", ":")}, {"ensure_ascii": False}])
OWN = {"format": "chatmesh.conversations", "version": 1}


def refusal(data: bytes) -> DomainError:
    with pytest.raises(DomainError) as refused:
        open_import(data)
    assert refused.value.reason is Reason.INVALID_IMPORT
    return refused.value


@given(st.lists(values, max_size=5), forms)
def test_a_list_is_cut_into_its_items(items: list[Any], form: dict[str, Any]) -> None:
    file = open_import(b"\xef\xbb\xbf" * bool(items) + b" \n" + json.dumps(items, **form).encode())
    assert [file.source(index) for index in range(len(file.spans))] == items


@given(st.lists(values, max_size=5), values, forms, st.booleans())
def test_our_own_files_may_have_other_members(items: list[Any], other: Any, form: dict[str, Any], last: bool) -> None:
    more = {"more": {"conversations": other}, "and": "conversations", "list": [other]}
    whole = {**more, **OWN, "conversations": items} if last else {**OWN, "conversations": items, **more}
    file = open_import(json.dumps(whole, **form).encode())
    assert [file.source(index) for index in range(len(file.spans))] == items


@given(st.lists(values, max_size=4), st.data())
def test_a_file_that_was_cut_is_refused(items: list[Any], data: st.DataObject) -> None:
    whole = json.dumps({**OWN, "conversations": items}).encode()
    refusal(whole[: data.draw(st.integers(0, len(whole) - 1))])


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("[1, nope]", 4),
        ('["\u00e4", {"a": nope}]', 13),
        ('[{"a": NaN}]', None),
        ("[1,, 2]", 3),
        ("[1,]", 3),
        ("[1] 2", 2),
        ("[1]]", None),
        ('["a]', None),
        ("hello", 0),
        ('{"format": "chatmesh.conversations", "version": 1, "conversations": [1] 2}', None),
        ('{"format": "chatmesh.conversations", "version": 1}', None),
        ('{"format": "chatmesh.conversations", "version": 2, "conversations": []}', None),
        ('{"format": "other", "version": 1, "conversations": []}', None),
        ('{"conversations": []}', None),
        ("[" + "9" * 5000 + "]", None),
    ],
)
def test_what_is_no_file_of_conversations(text: str, position: int | None) -> None:
    error = refusal(text.encode())
    if position is not None:
        assert error.metadata["position"] == str(position)


def test_text_that_is_not_utf_8() -> None:
    assert refusal(b'["ok", "\xff"]').metadata["position"] == "8"


def test_files_that_would_take_more_than_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal(b"[" * 10_000 + b"]" * 10_000)
    refusal(b"[" + b"1," * import_file.MAX_CONVERSATIONS + b"1]")
    assert len(open_import(b"[" + b"1," * (import_file.MAX_CONVERSATIONS - 1) + b"1]").spans) == 10_000
    monkeypatch.setattr(import_file, "MAX_VALUES", 1000)
    refusal(b"[[" + b"{}," * 334 + b"{}]]")


def test_a_long_text_costs_its_length() -> None:
    # A pattern that goes back, or that keeps a mark per character, would not end or need gigabytes.
    text = '\\"[{,' * 2_000_000
    file = open_import(json.dumps([{"text": text}]).encode())
    assert file.source(0) == {"text": text}
