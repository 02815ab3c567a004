"""The classifier at the gate: what remains of an answer depends neither on the cuts nor on the classifier's pace."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from services.moderation.gate import Gate, Question, Reply, apply_retractions
from services.moderation.model import Action, Layer, Outcome, Retraction
from tests.unit.moderation.policies import rule, rules, user_policy

RULES = rules(
    rule("secret-[a-z]+", replacement="[secret]", name="secret", max_bytes=20),
    rule("stop here", Action.BLOCK, replacement="[stopped]", name="stop"),
    rule("key:[a-z]+", replacement="[key]", name="key", max_bytes=100),
)
SEGMENT = 12


def outcome(action: Action, replacement: str) -> Outcome:
    return Outcome("violence", "classifier", action, replacement, Layer.CLASSIFIER)


def judge(question: Question) -> Reply:
    """A classifier that knows four words; what it says depends on the text alone."""
    found = []
    if "BAD" in question.text:
        found.append((outcome(Action.BLOCK, "[bad]"), 0.9))
    if "SUM" in question.text and question.whole and question.text.count("SUM") > 1:
        found.append((outcome(Action.HOLD, "[held]"), 0.8))
    if "odd" in question.text[-SEGMENT:] and not question.whole:
        found.append((outcome(Action.REDACT, "[odd]"), 0.7))
    if "hm" in question.text:
        found.append((outcome(Action.WARN, ""), 0.6))
    return Reply(sorted(found, key=lambda entry: -entry[0].action))


class Reader:
    """Streams an answer through a gate, with a classifier that answers when it likes."""

    def __init__(self, chance: random.Random, *, ahead: int = 900) -> None:
        self.questions: list[Question] = []
        self.gate = Gate(policy=user_policy(RULES, segment=SEGMENT, ahead=ahead), ask=self.questions.append)
        self.retractions: list[Retraction] = []
        self.watermark = 0
        self.sent = 0
        self._chance = chance

    def read(self, segments: Sequence[str]) -> str:
        for index, segment in enumerate(segments):
            if self.gate.done:
                break
            self.sent += len(segment)
            self._take(self.gate.feed(segment, last=index == len(segments) - 1))
            while self.questions and self._chance.random() < 0.4:
                self.answer()
        while self.questions:
            self.answer()
        assert self.gate.done
        assert any(r.outcome.action.refuses for r in self.retractions) or self.watermark == self.sent
        return self.shown("".join(segments))

    def answer(self) -> None:
        question = self.questions.pop(self._chance.randrange(len(self.questions)))
        self._take(self.gate.reply(question, judge(question)))

    def _take(self, progress: object) -> None:
        if progress is None:
            return
        assert self.watermark <= progress.watermark  # type: ignore[attr-defined]
        self.watermark = progress.watermark  # type: ignore[attr-defined]
        self.retractions += progress.retractions  # type: ignore[attr-defined]

    def shown(self, text: str) -> str:
        """As a client has it in the end: ranges that touch are one, with the replacement that came last."""
        merged: list[Retraction] = []
        for late in self.retractions:
            start, end = late.start, late.end
            touched = [r for r in merged if r.start < end and start < r.end]
            start = min([start, *(r.start for r in touched)])
            end = max([end, *(r.end for r in touched)])
            merged = [r for r in merged if r not in touched]
            merged.append(Retraction(start, end, late.replacement, late.outcome))
            merged.sort(key=lambda retraction: retraction.start)
        return apply_retractions(text, merged)


def cut(text: str, places: Sequence[int]) -> list[str]:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(edges)]


PIECES = [
    "secret-",
    "abc",
    " the quick",
    ". ",
    "BAD",
    "stop ",
    "here",
    "SUM ",
    "odd",
    "hm",
    "key:abcdefgh",
    "\n",
    "é👍 ",
]


@settings(max_examples=1000, deadline=None)
@given(
    pieces=st.lists(st.sampled_from(PIECES), max_size=16),
    places=st.lists(st.integers(0, 10_000), max_size=14),
    seed=st.integers(0, 1_000_000),
    ahead=st.sampled_from([0, 5, 900]),
)
def test_neither_cuts_nor_the_classifiers_pace_decide(
    pieces: list[str], places: list[int], seed: int, ahead: int
) -> None:
    text = "".join(pieces)
    one, other = Reader(random.Random(0)), Reader(random.Random(seed), ahead=ahead)
    assert other.read(cut(text, places)) == one.read([text])
    # Also what is written down of it.
    assert set(other.gate.findings) == set(one.gate.findings)


def test_a_text_cut_in_a_thousand_ways_gives_one_verdict() -> None:
    chance = random.Random(5)
    text = " ".join(
        chance.choice(["the quick brown fox.", "secret-abc", "odd", "hm", "jumps", "SUM", "over it."])
        for _ in range(60)
    )
    whole = Reader(random.Random(0)).read([text])
    for seed in range(1000):
        places = [chance.randrange(len(text)) for _ in range(chance.randrange(1, 80))]
        reader = Reader(random.Random(seed))
        assert reader.read(cut(text, places)) == whole


def test_text_runs_ahead_of_the_classifier_by_no_more_than_the_policy_says() -> None:
    reader = Reader(random.Random(1), ahead=20)
    for _ in range(20):
        reader._take(reader.gate.feed("one two. ", last=False))
    assert reader.watermark == 20
    while len(reader.questions) > 1:
        reader.questions.sort(key=lambda question: question.stretch.end)
        question = reader.questions.pop(0)
        reader._take(reader.gate.reply(question, judge(question)))
        assert reader.watermark == min(180, question.stretch.end + 20)


def test_with_nothing_ahead_only_cleared_segments_are_shown() -> None:
    reader = Reader(random.Random(1), ahead=0)
    reader._take(reader.gate.feed("one two three. four", last=False))
    assert reader.watermark == 0
    (question,) = reader.questions
    reader.questions.clear()
    assert question.text == "one two three."
    reader._take(reader.gate.reply(question, judge(question)))
    assert reader.watermark == 14


def test_what_was_shown_is_taken_back_to_the_start_of_the_stretch() -> None:
    reader = Reader(random.Random(1))
    reader._take(reader.gate.feed("all is well. this is BAD. and", last=False))
    assert reader.watermark == 29
    for question in list(reader.questions):
        reader._take(reader.gate.reply(question, judge(question)))
    (retraction,) = reader.retractions
    assert (retraction.start, retraction.end, retraction.replacement) == (0, 29, "[bad]")
    assert reader.gate.done


def test_a_pattern_that_refuses_waits_for_the_classifiers_word_on_what_comes_before() -> None:
    reader = Reader(random.Random(1))
    progress = reader.gate.feed("all is so BAD. now stop here and more", last=False)
    assert not progress.done
    assert progress.watermark == 19
    (question,) = [question for question in reader.questions if question.stretch.end <= 19]
    final = reader.gate.reply(question, judge(question))
    assert final is not None
    assert final.done
    (retraction,) = final.retractions
    assert (retraction.start, retraction.replacement) == (0, "[bad]")


def test_without_an_answer_the_text_passes_and_that_is_said() -> None:
    reader = Reader(random.Random(1), ahead=0)
    progress = reader.gate.feed("one two three. four", last=True)
    assert progress.watermark == 0
    while reader.questions:
        progress = reader.gate.reply(reader.questions.pop(), Reply(unchecked=True))  # type: ignore[assignment]
    assert progress.done
    assert progress.watermark == 19
    assert progress.unchecked == (Layer.CLASSIFIER,)


def test_what_is_found_in_the_whole_is_taken_out_of_the_whole() -> None:
    reader = Reader(random.Random(1))
    text = "one two three. four five six. end"
    reader._take(reader.gate.feed(text, last=True))
    while reader.questions:
        question = reader.questions.pop(0)
        reply = Reply([(outcome(Action.REDACT, "[all]"), 0.9)] if question.whole else [])
        reader._take(reader.gate.reply(question, reply))
    assert reader.gate.done
    assert reader.shown(text) == "[all]"
