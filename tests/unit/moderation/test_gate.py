"""What may be shown when, and what the answer is in the end: independent of how it was cut."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.moderation.gate import Gate, apply_retractions
from services.moderation.model import Action, Progress, Retraction
from services.moderation.policy import PACKAGED_POLICY, Policy
from services.moderation.rules.candidate import Candidate, Span
from services.moderation.rules.checks import CHECKS
from services.moderation.rules.rule_set import RuleSet
from services.moderation.rules.scanner import Scanner
from tests.unit.moderation.policies import SamePoints, rule, rules, user_policy

CARD = "4111 1111 1111 1111"

MIXED = rules(
    rule("secret-[a-z]+", replacement="[secret]", name="secret", max_bytes=20),
    rule(r"\b[0-9](?:[ -]?[0-9]){7,15}\b", replacement="[number]", name="number", check=CHECKS["luhn"]),
    rule("ab(?:ab)*c?", replacement="[ab]", name="ab", max_bytes=9),
    rule(r"b a|a\b", replacement="[overlap]", name="overlap"),
    rule("é{2,3}ß?", replacement="[é]", name="accents", ignore_case=True),
    rule(r"stop (?:[a-z]+ ){0,2}here\b", Action.BLOCK, replacement="[blocked]", name="stop", max_bytes=40),
)


def gate_of(rule_set: RuleSet, *, max_held: int) -> Gate:
    return Gate(policy=user_policy(rule_set, max_held=max_held))


def stands(progress: Progress) -> tuple[int, bool]:
    return progress.watermark, progress.done


def final_text(segments: Sequence[str], rule_set: RuleSet, *, max_held: int = 12) -> tuple[str, list[Retraction]]:
    """Stream the segments; check what each step promises; return what remains of the answer."""
    gate = gate_of(rule_set, max_held=max_held)
    retractions: list[Retraction] = []
    watermark = 0
    sent = 0
    for index, segment in enumerate(segments):
        sent += len(segment)
        progress = gate.feed(segment, last=index == len(segments) - 1)
        assert progress.seen == sent
        assert watermark <= progress.watermark <= sent
        watermark = progress.watermark
        for retraction in progress.retractions:
            assert retraction.end <= sent
            assert not retractions or retractions[-1].end <= retraction.start
            retractions.append(retraction)
        if progress.done:
            break
    assert gate.done
    blocked = bool(retractions) and retractions[-1].outcome.action is Action.BLOCK
    text = "".join(segments)
    assert blocked or watermark == len(text)
    return apply_retractions(text, retractions), retractions


def cut(text: str, places: Sequence[int]) -> list[str]:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(edges)]


PIECES = [
    "secret-",
    "abc",
    "ab",
    "a",
    "b",
    "c ",
    " ",
    "é",
    "É",
    "ß",
    "4111",
    "1111 1111",
    "1111",
    "-",
    "stop ",
    "here",
    "x",
    "stop ab here",
    "abcdefghijklmnop",
]


@settings(max_examples=600, deadline=None)
@given(
    pieces=st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=14),
    places=st.lists(st.integers(0, 10_000), max_size=12),
)
def test_the_answer_does_not_depend_on_the_cuts(pieces: list[str], places: list[int]) -> None:
    text = "".join(pieces)
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    assert final_text(cut(text, places), MIXED)[0] == final_text([text], MIXED)[0]


@settings(max_examples=600, deadline=None)
@given(
    pieces=st.lists(st.sampled_from(PIECES), max_size=14),
    places=st.lists(st.integers(0, 10_000), max_size=12),
)
def test_the_findings_do_not_depend_on_the_cuts(pieces: list[str], places: list[int]) -> None:
    """Each is found once, in the same order, at the same place."""
    text = "".join(pieces)
    scanner = Scanner(MIXED)
    segments = cut(text, places)
    found = [finding for segment in segments[:-1] for finding in scanner.feed(segment)]
    found += scanner.feed(segments[-1], last=True)
    assert found == Scanner(MIXED).feed(text, last=True)


def test_what_is_found_inside_of_what_may_begin_earlier_waits_for_it() -> None:
    gate = gate_of(MIXED, max_held=100)
    assert stands(gate.feed("go stop ab", last=False)) == (3, False)
    assert stands(gate.feed(" and", last=False)) == (3, False)
    progress = gate.feed(" here", last=True)
    assert [(item.start, item.end, item.replacement) for item in progress.retractions] == [(3, 19, "[blocked]")]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_the_packaged_policy_does_not_depend_on_the_cuts(data: st.DataObject) -> None:
    pieces = data.draw(
        st.lists(
            st.sampled_from(
                [
                    CARD,
                    f"{CARD}.",
                    "CHATMESH-TEST-REDACT-7f3a",
                    "CHATMESH-TEST-",
                    "BLOCK-7f3a",
                    "sk-abcDEF0123456789abcdef",
                    "ghp_" + "aB3" * 12,
                    "-----BEGIN RSA PRIVATE KEY-----\n",
                    "MIIEowIBAAKCAQEA\n" * 4,
                    "-----END RSA PRIVATE KEY-----",
                    "here is how to make ",
                    "123-45-6789",
                    " and ",
                    "¡olé! 👩‍👩‍👧 ",
                    "4",
                    "the quick brown fox. ",
                ]
            ),
            max_size=8,
        )
    )
    text = "".join(pieces)
    places = data.draw(st.lists(st.integers(0, 10_000), max_size=20))
    output = PACKAGED
    assert final_text(cut(text, places), output)[0] == final_text([text], output)[0]


PACKAGED = Policy.load(PACKAGED_POLICY, points=SamePoints()).for_user(tenant_id="", tier="").output.rules


def test_one_character_at_a_time_is_the_same() -> None:
    text = f"Pay with {CARD}, or 👛 stop right here. secret-abcdefghijklmnopqrstuvwxyz é"
    for end in range(len(text)):
        assert final_text([*text[:end]] or [""], MIXED)[0] == final_text([text[:end]], MIXED)[0]


def test_prose_passes_at_once() -> None:
    gate = gate_of(PACKAGED, max_held=256)
    sent = 0
    for word in "The quick brown fox, in 1999 or so, ran over 250 lazy dogs; they did not mind. ".split(" "):
        sent += len(word) + 1
        progress = gate.feed(f"{word} ", last=False)
        assert progress.watermark >= sent - 5


def test_text_that_may_begin_a_match_waits_until_it_cannot() -> None:
    gate = gate_of(rules(rule("secret-[a-z]{3}")), max_held=100)
    assert stands(gate.feed("my sec", last=False)) == (3, False)
    assert stands(gate.feed("ret", last=False)) == (3, False)
    assert stands(gate.feed("ary", last=False)) == (12, False)


def test_a_card_before_a_full_stop_is_replaced() -> None:
    text, retractions = final_text(["My card is 4111 1111", " 1111 1111", ". Thanks"], PACKAGED)
    assert text == "My card is [card number removed]. Thanks"
    assert [(item.start, item.end) for item in retractions] == [(11, 30)]


def test_offsets_are_code_points() -> None:
    before = "👩‍👩‍👧 שלום é "
    text, retractions = final_text([before[:5], before[5:] + "secret-abc", " 👍"], MIXED)
    assert (retractions[0].start, retractions[0].end) == (len(before), len(before) + 10)
    assert text == f"{before}[secret] 👍"


def test_what_is_shown_early_is_retracted() -> None:
    """More than `max_held` may begin a match: its first part is shown, and goes when it turns out to be one."""
    gate = gate_of(rules(rule("x[a-z]{30}!")), max_held=10)
    early = gate.feed("x" + "a" * 20, last=False)
    assert stands(early) == (11, False)
    late = gate.feed("a" * 10 + "! b", last=True)
    assert [(item.start, item.end) for item in late.retractions] == [(0, 32)]
    assert late.watermark == 34


def test_what_is_known_to_be_a_match_is_never_shown() -> None:
    gate = gate_of(rules(rule("key:[a-z]+", max_bytes=1000)), max_held=10)
    assert stands(gate.feed("the key:a", last=False)) == (4, False)
    for _ in range(20):
        assert stands(gate.feed("abcdefghij", last=False)) == (4, False)
    done = gate.feed(". ", last=True)
    assert [(item.start, item.end) for item in done.retractions] == [(4, 209)]


def test_a_block_ends_the_answer_before_its_match() -> None:
    gate = gate_of(MIXED, max_held=100)
    gate.feed("one two stop ri", last=False)
    progress = gate.feed("ght here and then more", last=False)
    assert progress.done
    assert gate.done
    assert gate.action is Action.BLOCK
    (retraction,) = progress.retractions
    assert (retraction.start, retraction.end, retraction.replacement) == (8, 23, "[blocked]")
    assert progress.watermark == 23


def test_what_is_found_late_inside_of_what_is_gone_already_changes_nothing() -> None:
    gate = gate_of(rules(rule("abcdefghij"), rule("b[a-z]{2}(?:[a-z]{9}Z)?")), max_held=100)
    progress = gate.feed("abcdefghijk", last=False)
    assert [(item.start, item.end) for item in progress.retractions] == [(0, 10)]
    assert stands(gate.feed(".", last=True)) == (12, True)


def test_the_end_decides_what_was_open() -> None:
    assert final_text(["it is ab"], MIXED)[0] == "it is [ab]"
    assert final_text(["a card 4111 1111 1111 1111"], MIXED)[0].endswith("[number]")
    gate = gate_of(MIXED, max_held=100)
    assert stands(gate.feed("my secret", last=False)) == (3, False)
    assert stands(gate.feed("", last=True)) == (9, True)


@pytest.mark.parametrize("size", [1, 7, 100, 5000])
def test_long_text_is_cut_inside_without_a_trace(size: int) -> None:
    text = ("word secret-abc " * 1000)[:9000] + CARD
    whole = final_text([text], PACKAGED)
    parts = final_text([text[at : at + size] for at in range(0, len(text), size)], PACKAGED)
    assert parts[0] == whole[0]


def test_no_rules_let_everything_pass() -> None:
    assert stands(gate_of(rules(), max_held=1).feed("anything", last=True)) == (8, True)


@given(st.lists(st.integers(1, 9_000), min_size=1, max_size=6))
@settings(deadline=None, max_examples=10)
def test_of_what_changes_nothing_the_first_thousand_are_told(cuts: list[int]) -> None:
    looked = rules(rule("[0-9]+;", Action.ALLOW, name="number", max_bytes=20), rule("[a-z]!", name="letter"))
    text = "12; " * 2_500 + "a!" * 1_200
    edges = sorted({0, *(cut for cut in cuts if cut < len(text)), len(text)})
    scanner = Scanner(looked)
    found = [f for a, b in pairwise(edges) for f in scanner.feed(text[a:b], last=b == len(text))]
    numbers = [finding.start for finding in found if finding.outcome.rule == "number"]
    assert numbers == [4 * place for place in range(1_000)]
    assert sum(finding.outcome.rule == "letter" for finding in found) == 1_200


def test_rules_that_mean_less_are_not_asked() -> None:
    asked: list[str] = []

    def check(candidate: Candidate) -> Span | None:
        asked.append(candidate.text)
        return candidate.whole

    looked = rules(
        rule("[0-9]+;", name="redacts", max_bytes=20, check=check), rule("stop", Action.BLOCK, name="blocks")
    )
    found = Scanner(looked, least=Action.HOLD).feed("12; stop 13; stop", last=True)
    assert [(finding.start, finding.outcome.rule) for finding in found] == [(4, "blocks"), (13, "blocks")]
    assert asked == []
