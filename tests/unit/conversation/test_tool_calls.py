"""Calls of tools: gathered from deltas, shown as JSON after what moderation replaced."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.conversation.chat_model import ToolCall, ToolCallDelta
from services.conversation.moderation_model import (
    AnswerContext,
    Availability,
    ModerationCheck,
    ModerationMode,
    Retraction,
    Stand,
    both,
)
from services.conversation.tool_calls import ToolCalls, readable, redacted
from services.runtime.errors import DomainError, Reason


def gone(start: int, end: int, replacement: str = "[x]", *, ends_answer: bool = False) -> Retraction:
    return Retraction(start, end, replacement, "secrets", ends_answer, "p1")


def stand(watermark: int, retractions: list[Retraction], *, done: bool) -> Stand:
    return Stand(watermark, retractions, done, watermark, ModerationCheck(ModerationMode.CHECKED), "p1")


class Beside:
    """The text of the same answer."""

    def __init__(self, availability: Availability | None = None) -> None:
        self.context = AnswerContext("u", "free", "", "c", "secret instructions")
        self.availability = availability


class Checker:
    """Who is told that there is something to check."""

    def __init__(self) -> None:
        self.submitted: list[ToolCalls] = []
        self.abandoned: list[str] = []

    def submit(self, calls: ToolCalls) -> None:
        self.submitted.append(calls)

    def abandon(self, generation_id: str) -> None:
        self.abandoned.append(generation_id)


def checked(*deltas: ToolCallDelta) -> tuple[ToolCalls, list[DomainError | None], str]:
    """Calls that are being checked, what their answer is told, and the text that is checked."""
    calls = ToolCalls("g")
    calls.add(deltas)
    told: list[DomainError | None] = []
    calls.check(cast(Any, Checker()), told.append, beside=Beside())
    text, last = calls.take_segment()
    assert last
    return calls, told, text


def test_deltas_of_several_calls_are_told_apart() -> None:
    calls, told, text = checked(
        ToolCallDelta(1, "b", "now", "{}"),
        ToolCallDelta(0, "a", "weather", '{"ci'),
        ToolCallDelta(0, "", "", 'ty": 1}'),
    )
    assert text == 'weather\n{"city": 1}\nnow\n{}\n'
    assert not calls.shown
    calls.on_stand(stand(len(text), [], done=True))
    assert calls.shown == (ToolCall("a", "weather", '{"city": 1}'), ToolCall("b", "now", "{}"))
    assert told == [None]


def test_nothing_is_shown_before_all_is_checked() -> None:
    calls, told, text = checked(ToolCallDelta(0, "a", "f", "{}"))
    calls.on_stand(stand(len(text) - 1, [], done=False))
    assert (calls.shown, told) == ((), [])


def test_a_replacement_in_the_second_call_leaves_the_first() -> None:
    calls, told, text = checked(ToolCallDelta(0, "a", "f", '{"q": "one"}'), ToolCallDelta(1, "b", "f", '{"q": "two"}'))
    at = text.index("two")
    calls.on_stand(stand(len(text), [gone(at, at + 3, 'a "b"')], done=True))
    assert told == [None]
    assert [json.loads(call.arguments) for call in calls.shown] == [{"q": "one"}, {"q": 'a "b"'}]


def test_a_replacement_over_two_calls_ends_the_answer() -> None:
    calls, told, text = checked(ToolCallDelta(0, "a", "f", '{"q": 1}'), ToolCallDelta(1, "b", "f", '{"q": 2}'))
    calls.on_stand(stand(len(text), [gone(text.index("1"), text.index("2"))], done=True))
    [error] = told
    assert error is not None
    assert error.reason is Reason.CONTENT_BLOCKED
    assert calls.shown == ()


def test_after_the_checker_forgot_it_is_sent_again_and_counted_once() -> None:
    calls, told, text = checked(ToolCallDelta(0, "a", "f", '{"q": "one"}'))
    at = text.index("one")
    calls.on_stand(stand(at, [gone(at, at + 3)], done=False))
    assert calls.take_segment() == ("", True)
    calls.rewind()
    assert calls.take_segment() == (text, True)
    calls.on_stand(stand(len(text), [gone(at, at + 3)], done=True))
    assert told == [None]
    assert [call.arguments for call in calls.shown] == ['{"q": "[x]"}']


def test_who_is_abandoned_says_nothing_more() -> None:
    calls = ToolCalls("g")
    calls.add([ToolCallDelta(0, "a", "f", "{}")])
    checker, told = Checker(), list[DomainError | None]()
    calls.check(cast(Any, checker), told.append, beside=Beside())
    calls.abandon()
    calls.on_stand(stand(5, [], done=True))
    assert (checker.abandoned, told) == (["g.tools"], [])


def test_another_engine_begins_anew() -> None:
    calls = ToolCalls("g")
    calls.add([ToolCallDelta(0, "a", "f", '{"x"')])
    calls.restart()
    assert calls.empty


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ('{"a": 1.0}', '{"a": 1.0}'),
        ('{"a":  "\\u0041"}', '{"a": "A"}'),
        ('{"a": "\\ud800"}', '{"a": "\\ud800"}'),
        ('{"a": "\\u00', '{"a": "\\u00'),
    ],
)
def test_characters_are_checked_as_what_they_are(arguments: str, said: str) -> None:
    assert readable(arguments) == said


@given(st.dictionaries(st.text(max_size=4), st.text(max_size=10) | st.integers(), max_size=4), st.data())
def test_what_is_shown_is_json_without_what_was_replaced(value: dict[str, Any], data: st.DataObject) -> None:
    arguments = json.dumps(value, ensure_ascii=False)
    bounds = sorted(data.draw(st.lists(st.integers(0, len(arguments)), min_size=2, max_size=6, unique=True)))
    ranges = list(zip(bounds[::2], bounds[1::2], strict=False))
    shown = redacted(arguments, [gone(a + 7, b + 7) for a, b in ranges], offset=7)
    if shown is not None:
        json.loads(shown)
        kept = [arguments[end:start] for (_, end), (start, _) in pairwise(ranges)]
        assert shown.startswith(arguments[: bounds[0]])
        assert all(part in shown for part in kept)


def test_who_is_checked_says_what_it_is_part_of_and_guards_no_instructions() -> None:
    calls, _, _ = checked(ToolCallDelta(0, "a", "f", "{}"))
    assert calls.context == AnswerContext("u", "free", "", "c", "")


def test_unchecked_calls_are_shown_only_where_the_policy_says_so() -> None:
    lost = DomainError(Reason.DEPENDENCY_UNAVAILABLE, "gone")
    for availability, shown in ((None, 0), (Availability(1.0, True, True, "p1"), 1)):
        calls, told = ToolCalls("g"), list[DomainError | None]()
        calls.add([ToolCallDelta(0, "a", "f", "{}")])
        calls.check(cast(Any, Checker()), told.append, beside=Beside(availability))
        calls.look_for_lag(100.0)
        calls.look_for_lag(101.9)
        assert told == []
        calls.on_moderation_lost(lost)
        assert (len(calls.shown), told) == (shown, [None if shown else lost])


def test_a_check_that_lags_too_long_is_not_waited_for_where_the_policy_says_so() -> None:
    calls, told = ToolCalls("g"), list[DomainError | None]()
    calls.add([ToolCallDelta(0, "a", "f", "{}")])
    calls.check(cast(Any, Checker()), told.append, beside=Beside(Availability(1.0, True, True, "p1")))
    calls.look_for_lag(100.0)
    calls.look_for_lag(102.1)
    assert (len(calls.shown), told) == (1, [None])
    assert calls.said == ModerationCheck(ModerationMode.OPEN)


def test_they_are_checked_once() -> None:
    """A text that is shown unchecked is cleared at every look, and again when it was checked after all."""
    calls, told, checker = ToolCalls("g"), list[DomainError | None](), Checker()
    calls.add([ToolCallDelta(0, "a", "f", "{}")])
    for _ in range(3):
        calls.check(cast(Any, checker), told.append, beside=Beside())
    assert checker.submitted == [calls]
    assert calls.take_segment() == ("f\n{}\n", True)
    calls.on_stand(stand(5, [], done=True))
    assert told == [None]


def test_a_receipt_says_the_strictest_of_the_text_and_the_calls() -> None:
    text = ModerationCheck(ModerationMode.CHECKED, "warn", ("hate",), ("classifier",), "")
    calls = ModerationCheck(ModerationMode.OPEN, "redact", ("pii", "hate"), (), "e1")
    expected = ModerationCheck(ModerationMode.OPEN, "redact", ("hate", "pii"), ("classifier",), "e1")
    assert both(text, calls) == expected
    assert both(text, ModerationCheck(ModerationMode.CHECKED)) == text
