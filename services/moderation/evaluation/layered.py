"""Moderation's own layers as the judge that is evaluated: the same parts, in the same order, as in the service."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from services.moderation.attacks.pattern_file import Origin
from services.moderation.attacks.patterns import AttackFinding, AttackPatterns
from services.moderation.attacks.reading import Reading
from services.moderation.classifier import Classifier, Scores
from services.moderation.evaluation.judging import LAYERS, FoundSpan, Judged, LayerJudgement
from services.moderation.gate import Gate, Question, Reply
from services.moderation.judge import InputTexts, Judge, classifier_outcomes
from services.moderation.model import Action, Direction, Finding, Layer
from services.moderation.policy import PACKAGED_POLICY, Policy, UserPolicy, WayPolicy
from services.moderation.rules.rule_set import RuleSet
from services.moderation.rules.scanner import Scanner
from services.moderation.scoring import TextClassifier
from services.moderation.text.normalise import for_classifier

_SECRETS, _PII = "secrets", "pii"
_ENTITIES = {"card_number_wide": "card_number", "us_ssn_named": "us_ssn", "phone_number": "phone"}
"""What rules find whose name is another's or says more."""
_KEY = "api_key"
"""What all rules of `secrets` find."""


class LayeredJudge:
    """Judges texts as the service does for a user of no tenant and no tier, each text by itself.

    Personal data and secrets are no harm and no attack: what is found of them flags no text that is judged for harm.

    The score of an answer is the classifier's for the whole of it; whether it is flagged is decided as in a stream, by
    each of its stretches, too.
    """

    def __init__(self, *, policy: Policy, classifier: TextClassifier | None, layers: frozenset[Layer]) -> None:
        user = policy.for_user(tenant_id="", tier="")
        self._finding = user.input
        if Layer.RULES not in layers:
            user = replace(user, input=_without_rules(user.input), output=_without_rules(user.output))
        self._policy: UserPolicy = user
        self._layers = layers
        self._classifier = classifier
        self._judge = Judge(attacks=AttackPatterns.load() if Layer.ATTACKS in layers else _NoAttacks())

    @classmethod
    def load(cls, *, policy_file: Path | None = None, layers: frozenset[Layer] = frozenset(LAYERS)) -> Self:
        """Load the policy and, unless it is switched off, the classifier.

        Raises:
            SettingsError: saying what is wrong with either.
        """
        path = policy_file or Path(os.environ.get("CHATMESH_POLICY_FILE") or PACKAGED_POLICY)
        classifier = Classifier.load() if Layer.CLASSIFIER in layers else None
        return cls(policy=Policy.load(path, points=classifier or NoPoints()), classifier=classifier, layers=layers)

    @property
    def versions(self) -> Mapping[str, str]:
        """Of the policy and the classifier."""
        versions = {"policy": self._policy.version}
        if self._classifier is not None:
            versions["classifier"] = self._classifier.version
        return versions

    @property
    def entities(self) -> frozenset[str]:
        """The entities that the policy has rules for."""
        known = (_entity(outcome.category, outcome.rule) for outcome in self._finding.outcomes)
        return frozenset(entity for entity in known if entity)

    def judge(self, text: str, direction: Direction) -> Judged:
        """Judge a text for harm and attacks."""
        return self._judge_input(text) if direction is Direction.INPUT else self._judge_output(text)

    def find(self, text: str) -> Sequence[FoundSpan]:
        """Find personal data and secrets; of findings that overlap the first counts, as in redaction."""
        way = self._finding
        found: list[FoundSpan] = []
        for finding in Scanner(way.rules, way.outcomes).feed(text, last=True):
            entity = _entity(finding.outcome.category, finding.outcome.rule)
            if entity and (not found or finding.start >= found[-1].end):
                found.append(FoundSpan(entity, finding.start, finding.end))
        return found

    def _judge_input(self, text: str) -> Judged:
        judging = self._judge.begin(InputTexts([text]), self._policy)
        replies: list[Scores] = []
        if self._classifier is not None and judging.questions:
            began = time.perf_counter()
            for question in judging.questions:
                replies += self._classifier.classify([question.text], Direction.INPUT, quick=question.quick)
                judging.take(question, replies[-1])
            judging.classified(seconds=time.perf_counter() - began)
        verdict = judging.verdict()
        seconds = {result.layer: result.seconds for result in verdict.layers if result.layer in self._layers}
        # The reading of the whole, and what else led to a finding.
        whole = [reply for question, reply in zip(judging.questions, replies, strict=False) if not question.quick]
        score = max((max(reply.harm, reply.attack) for reply in whole), default=0.0)
        found = (finding.score for finding in verdict.findings if finding.outcome.layer is Layer.CLASSIFIER)
        return self._judged(verdict.findings, seconds, replies, score=max([score, *found]))

    def _judge_output(self, text: str) -> Judged:
        open_questions: deque[Question] = deque()
        asked = self._classifier is not None and self._policy.output.asks_classifier
        gate = Gate(policy=self._policy, ask=open_questions.append if asked else None)
        began = time.perf_counter()
        gate.feed(text, last=True)
        seconds = {Layer.RULES: time.perf_counter() - began} if Layer.RULES in self._layers else {}
        replies: list[Scores] = []
        score = 0.0
        if self._classifier is not None and open_questions:
            began = time.perf_counter()
            while open_questions and not gate.done:
                question = open_questions.popleft()
                [reply] = self._classifier.classify([for_classifier(question.text)], Direction.OUTPUT, quick=True)
                replies.append(reply)
                score = reply.harm if question.whole else max(score, reply.harm)
                outcomes = classifier_outcomes(reply, self._policy.output.categories, streamed=not question.whole)
                gate.reply(question, Reply(outcomes))
            seconds[Layer.CLASSIFIER] = time.perf_counter() - began
        return self._judged(gate.findings, seconds, replies, score=score)

    def _judged(
        self, findings: Iterable[Finding], seconds: Mapping[Layer, float], replies: Sequence[Scores], *, score: float
    ) -> Judged:
        telling = [finding for finding in findings if finding.outcome.category not in (_SECRETS, _PII)]
        layers: dict[str, LayerJudgement] = {}
        for layer, took in seconds.items():
            mine = [finding for finding in telling if finding.outcome.layer is layer]
            flagged = any(finding.outcome.action > Action.ALLOW for finding in mine)
            pattern_score = max(map(_pattern_score, mine), default=0.0)
            layers[layer.value] = LayerJudgement(
                score if layer is Layer.CLASSIFIER else pattern_score, flagged=flagged, seconds=took
            )
        if replies:
            tier = "encoder" if any(reply.tier == "encoder" for reply in replies) else "linear"
        else:
            tier = next(reversed(layers), Layer.RULES.value)
        return Judged(
            score=max((judgement.score for judgement in layers.values()), default=0.0),
            flagged=any(judgement.flagged for judgement in layers.values()),
            tier=tier,
            layers=layers,
        )


_PATTERN_SCORES = {Action.ALLOW: 0.0, Action.WARN: 0.5}


def _pattern_score(finding: Finding) -> float:
    """A pattern knows no degrees: what it refuses is certain, what it warns of is as likely as not."""
    return _PATTERN_SCORES.get(finding.outcome.action, 1.0)


def _entity(category: str, rule: str) -> str:
    """The entity that a rule finds; empty for rules of other things."""
    if category == _SECRETS:
        return _KEY
    return _ENTITIES.get(rule, rule) if category == _PII else ""


def _without_rules(way: WayPolicy) -> WayPolicy:
    return replace(way, rules=RuleSet([]), outcomes=())


class _NoAttacks(AttackPatterns):
    """Patterns of attacks, switched off."""

    def __init__(self) -> None:
        """Needs no file."""

    def find(self, text: str | Reading, *, origin: Origin) -> list[AttackFinding]:  # noqa: ARG002
        """Find nothing."""
        return []


class NoPoints:
    """Operating points where the classifier is switched off: nothing reaches them."""

    def threshold(
        self,
        direction: Direction,  # noqa: ARG002
        head: str,  # noqa: ARG002
        point: str,  # noqa: ARG002
        *,
        streamed: bool = False,  # noqa: ARG002
    ) -> float:
        """More than any score."""
        return 2.0
