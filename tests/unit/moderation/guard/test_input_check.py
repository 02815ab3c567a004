"""When an input waits for the guard, and what it is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from services.moderation.attacks.patterns import AttackPatterns
from services.moderation.classifier import Scores
from services.moderation.guard.guard import findings
from services.moderation.guard.model import SAFE, Opinion, Silence
from services.moderation.input_check import InputCheck
from services.moderation.judge import InputTexts, Judge
from services.moderation.model import Action, Direction, Layer
from services.moderation.policy import Policy
from services.moderation.policy_file import HARM_CATEGORIES
from services.runtime.settings import SettingsError
from tests.unit.moderation.policies import SamePoints

JUDGE = Judge(attacks=AttackPatterns.load())
POLICY = """
version: guarded
guard: {{model: m, unsure_from: {unsure}}}
categories:
  violence:
    input: {{action: {action}, threshold: 0.9}}
    output: {{action: {action}, threshold: 0.9, replacement: "[gone]"}}
  self-harm:
    input: {{action: warn, note: "Answer with care."}}
    output: {{action: redact, replacement: "[no]"}}
  illicit:
    input: {{action: redact, replacement: "[x]"}}
    output: {{action: redact, replacement: "[x]"}}
  jailbreak:
    input: {{action: block, threshold: 0.9}}
    output: {{action: block}}
"""


def load(folder: Path, *, unsure: object = 0.4, action: str = "block", points: object = SamePoints()) -> Policy:
    path = folder / "policy.yaml"
    path.write_text(POLICY.format(unsure=unsure, action=action))
    return Policy.load(path, points=cast(Any, points))


class Asked:
    """A classifier that knows words, and a guard that says one thing."""

    version = "words"

    def __init__(self, opinion: Opinion | Silence = SAFE, **words: float) -> None:
        self.opinion = opinion
        self.words = words
        self.shown: list[str] = []

    async def score(self, text: str, direction: Direction, **_: object) -> Scores | None:
        harm = max([0.01, *(score for word, score in self.words.items() if word in text and word != "attack")])
        attack = self.words.get("attack", 0.01) if "attack" in text else 0.01
        return Scores(harm, attack, dict.fromkeys(HARM_CATEGORIES, harm), "encoder")

    async def ask(self, *_: object, text: str, **__: object) -> Opinion | Silence:
        self.shown.append(text)
        return self.opinion


def check(asked: Asked) -> InputCheck:
    return InputCheck(judge=JUDGE, scoring=cast(Any, asked), guard=cast(Any, asked))


@pytest.mark.parametrize(
    ("texts", "shown"),
    [
        (InputTexts(["fine"]), []),
        (InputTexts(["odd"]), ["odd"]),
        (InputTexts(["an attack"]), ["an attack"]),
        # Refused already.
        (InputTexts(["awful"]), []),
        # What was said before was judged before.
        (InputTexts(["fine"], earlier=["odd"]), []),
        (InputTexts(["odd"], earlier=["fine"]), ["odd"]),
        # What nobody said asks for nothing.
        (InputTexts(["fine"], untrusted=["odd"]), []),
        (InputTexts(["odd"], last_is_untrusted=True), []),
    ],
)
async def test_what_the_guard_is_shown(tmp_path: Path, texts: InputTexts, shown: list[str]) -> None:
    asked = Asked(odd=0.5, awful=0.95, attack=0.5)
    verdict = await check(asked).check(texts, load(tmp_path).for_user(tenant_id="", tier=""))
    assert asked.shown == shown
    assert (Layer.GUARD in [result.layer for result in verdict.layers]) is bool(shown)


async def test_what_becomes_odd_together_is_shown_together(tmp_path: Path) -> None:
    class Pairs(Asked):
        async def score(self, text: str, direction: Direction, **_: object) -> Scores | None:
            harm = 0.5 if "first" in text and "second" in text else 0.01
            return Scores(harm, 0.01, dict.fromkeys(HARM_CATEGORIES, harm), "encoder")

    asked = Pairs()
    policy = load(tmp_path).for_user(tenant_id="", tier="")
    await check(asked).check(InputTexts(["second"], earlier=["first"]), policy)
    (shown,) = asked.shown
    assert shown.index("first") < shown.index("second")
    # When it is so without the new message, that is no news.
    asked.shown.clear()
    await check(asked).check(InputTexts(["third"], earlier=["first", "second"]), policy)
    assert asked.shown == []


async def test_texts_that_clients_ask_about_are_not_shown_to_it(tmp_path: Path) -> None:
    asked = Asked(odd=0.5)
    await check(asked).judging(InputTexts(["odd"]), load(tmp_path).for_user(tenant_id="", tier=""))
    assert asked.shown == []


async def test_without_an_opinion_the_policy_does_without(tmp_path: Path) -> None:
    asked = Asked(Silence.LATE, odd=0.5)
    verdict = await check(asked).check(InputTexts(["odd"]), load(tmp_path).for_user(tenant_id="", tier=""))
    assert verdict.action is Action.ALLOW
    assert [(result.layer, result.unchecked) for result in verdict.layers][-1] == (Layer.GUARD, True)


@pytest.mark.parametrize(
    ("codes", "direction", "found"),
    [
        (("S1",), Direction.INPUT, [("violence", Action.HOLD)]),
        (("S1", "S11"), Direction.OUTPUT, [("violence", Action.HOLD), ("self-harm", Action.REDACT)]),
        # It does not say what to redact.
        (("S2",), Direction.INPUT, [("illicit", Action.WARN)]),
        (("S2",), Direction.OUTPUT, [("illicit", Action.REDACT)]),
        (("S6", "S8", "S13", "S10"), Direction.INPUT, []),
    ],
)
def test_what_codes_mean(
    tmp_path: Path, codes: tuple[str, ...], direction: Direction, found: list[tuple[str, Action]]
) -> None:
    policy = load(tmp_path, action="hold")
    user = policy.for_user(tenant_id="", tier="")
    way = user.input if direction is Direction.INPUT else user.output
    assert policy.guard is not None
    made = findings(Opinion(unsafe=True, codes=codes), policy.guard, way.categories, direction=direction, length=7)
    assert [(finding.outcome.category, finding.outcome.action) for finding in made] == found
    assert [finding.outcome.rule for finding in made] == [f"guard/{code}" for code in codes][: len(made)]
    assert all((finding.start, finding.end, finding.outcome.layer) == (0, 7, Layer.GUARD) for finding in made)


def test_from_where_it_is_unsure(tmp_path: Path) -> None:
    class Points(SamePoints):
        def threshold(self, direction: object, head: str, point: str, *, streamed: bool = False) -> float:
            if point != "fpr_5%":
                raise KeyError(point)
            return {"harm": 0.2, "attack": 0.3}[head]

    guard = load(tmp_path, unsure="fpr_5%", points=Points()).guard
    assert guard is not None
    assert (guard.unsure_harm, guard.unsure_attack) == (0.2, 0.3)
    with pytest.raises(SettingsError, match="guard: the classifier has no operating point fpr_7%"):
        load(tmp_path, unsure="fpr_7%", points=Points())
