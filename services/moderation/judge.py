"""The judgement of what goes to a model: layer after layer, the cheap ones first.

A text that a cheap layer refuses is not shown to a dearer one. `Judging` takes one input through the layers and leaves
it to its owner how the classifier is asked: at once, or in batches with many others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from services.moderation.attacks.pattern_file import Origin
from services.moderation.attacks.patterns import AttackFinding, AttackPatterns
from services.moderation.attacks.reading import Reading
from services.moderation.attacks.turns import JoinedText, joined_turns
from services.moderation.classifier import Scores
from services.moderation.gate import apply_retractions, resolve
from services.moderation.model import Action, Finding, Layer, LayerResult, Outcome, Verdict
from services.moderation.policy import CategoryPolicy, UserPolicy, WayPolicy
from services.moderation.policy_file import ATTACK_CATEGORY, HARM_CATEGORIES
from services.moderation.rules.scanner import Scanner
from services.moderation.segments import stretches
from services.moderation.text.normalise import for_classifier

CLASSIFIER_RULE = "classifier"
"""The rule that findings of the classifier name."""
_ATTACKS_RULE = "attack/"


@dataclass(frozen=True, slots=True)
class InputTexts:
    """What goes to a model.

    Attributes:
        texts: What the user is answerable for, oldest first; the last is the new message.
        earlier: The user's messages before it that were judged when they came, oldest first.
        untrusted: What the user did not write.
        last_is_untrusted: Whether the last of `texts` is such, too: it is searched like the user's own, and what it
            says is nobody's.
    """

    texts: Sequence[str]
    earlier: Sequence[str] = ()
    untrusted: Sequence[str] = ()
    last_is_untrusted: bool = False


_LONG = 200
"""Code points from which a text is also read sentence by sentence: harmless words around a harmful one outweigh it."""
_SENTENCE = 50
"""Code points of a sentence; shorter ones go with the next."""
_MOST_SENTENCES = 24


class Part(StrEnum):
    """Which part of an input the classifier is asked about."""

    CURRENT = "current"
    SENTENCE = "sentence"
    HISTORY = "history"
    JOINED = "joined"
    BEFORE = "before"
    UNTRUSTED = "untrusted"


@dataclass(frozen=True, slots=True)
class Question:
    """A text for the classifier."""

    text: str
    part: Part

    @property
    def quick(self) -> bool:
        """Whether a quick look will do: each of its parts has had a thorough one, or decides little."""
        return self.part not in (Part.CURRENT, Part.HISTORY)


class Judge:
    """Judges inputs. `attacks` are the patterns of attacks."""

    def __init__(self, *, attacks: AttackPatterns) -> None:
        self._attacks = attacks

    def begin(self, texts: InputTexts, policy: UserPolicy) -> Judging:
        """Ask the layers of patterns. Takes time that grows with the length of the texts."""
        judging = Judging(texts, policy)
        judging.ask_patterns(self._attacks)
        return judging


class Judging:
    """One input on its way through the layers.

    Attributes:
        questions: What the classifier is to be asked; none when it has no say, or when it is refused already.
    """

    def __init__(self, texts: InputTexts, policy: UserPolicy) -> None:
        self._texts = texts
        self._policy = policy
        *self._history, self._newest = map(Reading, texts.texts)
        self._untrusted = list(map(Reading, texts.untrusted))
        self._current = self._newest.text
        self._joined: JoinedText | None = None
        if any(texts.earlier) and not texts.last_is_untrusted:
            self._joined = joined_turns([*texts.earlier, self._current])
        self._findings: list[Finding] = []
        self._layers: list[LayerResult] = []
        self._replies: dict[Part, list[Scores]] = {}
        self._unanswered = 0
        self._redacted_others: dict[str, str] = {}
        self.questions: Sequence[Question] = ()

    @property
    def action(self) -> Action:
        """The strictest so far."""
        return max((finding.outcome.action for finding in self._findings), default=Action.ALLOW)

    def ask_patterns(self, attacks: AttackPatterns) -> None:
        """Ask the rules, and then the patterns of attacks."""
        self._measure(Layer.RULES, self._ask_rules)
        if ATTACK_CATEGORY in self._policy.input.categories and not self.action.refuses:
            self._measure(Layer.ATTACKS, lambda: self._ask_attacks(attacks))
        if self._policy.input.asks_classifier and not self.action.refuses:
            self.questions = list(self._questions())

    def take(self, question: Question, scores: Scores | None) -> None:
        """Take the classifier's answer to a question; None when it did not come in time."""
        if scores is None:
            self._unanswered += 1
        else:
            self._replies.setdefault(question.part, []).append(scores)

    def classified(self, *, seconds: float) -> None:
        """All answers of the classifier are there that will come, `seconds` after it was asked."""
        found = list(self._classifier_findings())
        self.add(Layer.CLASSIFIER, found, seconds=seconds, unchecked=self._unanswered > 0)

    def add(self, layer: Layer, findings: Sequence[Finding], *, seconds: float, unchecked: bool = False) -> None:
        """Take what a layer has found."""
        self._findings += findings
        action = max((finding.outcome.action for finding in findings), default=Action.ALLOW)
        self._layers.append(LayerResult(layer, action, seconds, unchecked))

    def unsure(self, *, harm: float, attack: float) -> str | None:
        """What the user wrote of which the classifier gives such scores: the new message, or what it becomes together
        with those before it. None when it is neither."""

        def reaches(part: Part) -> bool:
            return any(reply.harm >= harm or reply.attack >= attack for reply in self._replies.get(part, ()))

        if reaches(Part.CURRENT):
            return self._current
        if self._joined is not None and reaches(Part.JOINED) and not reaches(Part.BEFORE):
            return self._joined.text
        return None

    def scores(self) -> Mapping[str, float]:
        """How sure the layers are of each category, for the new message alone."""
        scores: dict[str, float] = dict.fromkeys(self._policy.input.categories, 0.0)
        for reply in self._replies.get(Part.CURRENT, ()):
            for category, score in _category_scores(reply):
                if category in scores:
                    scores[category] = max(scores[category], score)
        for finding in self._findings:
            category = finding.outcome.category
            if category in scores:
                scores[category] = max(scores[category], finding.score)
        return scores

    def verdict(self) -> Verdict:
        """The judgement by the layers that were asked."""
        action = self.action
        redacted = None
        retractions = resolve(sorted(self._own_findings(), key=lambda finding: finding.start))[0]
        if not action.refuses and retractions:
            redacted = apply_retractions(self._current, retractions)
        return Verdict(
            action=action,
            findings=tuple(self._findings),
            redacted_text=redacted,
            layers=tuple(self._layers),
            scores=self.scores(),
            note="" if action.refuses else "\n".join(self._notes()),
            redacted_others={} if action.refuses else self._redacted_others,
        )

    def _own_findings(self) -> Iterator[Finding]:
        """Findings of the rules in the new message: the others do not say exactly where something is."""
        for finding in self._findings:
            if finding.outcome.layer is Layer.RULES and finding.end > finding.start:
                yield finding

    def _notes(self) -> Sequence[str]:
        notes: dict[str, None] = {}
        for finding in self._findings:
            outcome = finding.outcome
            if outcome.action is not Action.WARN:
                continue
            elsewhere = finding.end == 0 or self._texts.last_is_untrusted
            untrusted = elsewhere and outcome.category in self._policy.untrusted
            categories = self._policy.untrusted if untrusted else self._policy.input.categories
            if note := categories[outcome.category].note:
                notes[note] = None
        return list(notes)

    def _measure(self, layer: Layer, ask: Callable[[], Iterator[Finding]]) -> None:
        began = time.perf_counter()
        findings = list(dict.fromkeys(ask()))
        self.add(layer, findings, seconds=time.perf_counter() - began)

    # Rules

    def _ask_rules(self) -> Iterator[Finding]:
        way = self._policy.input
        for elsewhere in (*self._history, *self._untrusted):
            found = Scanner(way.rules, way.outcomes, least=Action.REDACT).feed(elsewhere.text, last=True)
            yield from _whole(finding for finding in found if finding.outcome.action.refuses)
            if retractions := resolve(found)[0]:
                self._redacted_others[elsewhere.text] = apply_retractions(elsewhere.text, retractions)
        yield from Scanner(way.rules, way.outcomes).feed(self._current, last=True)
        plain = self._newest.normalised
        if plain.text != self._current:
            for finding in _refusals(plain.text, way):
                yield Finding(*plain.span(finding.start, finding.end), finding.outcome)
        for hidden in self._newest.decoded:
            for finding in _refusals(hidden.text, way):
                yield Finding(hidden.start, hidden.end, finding.outcome)
        if self._joined is not None:
            # A rule that says a blank means the seam, too.
            joined = _refusals(self._joined.text.replace("\n", " "), way)
            yield from _crossing(self._joined, joined, len(self._current))

    # Patterns of attacks

    def _ask_attacks(self, attacks: AttackPatterns) -> Iterator[Finding]:
        for said in self._history:
            yield from _whole(f for f in self._attack_findings(attacks, said, Origin.USER) if f.outcome.action.refuses)
        origin = Origin.UNTRUSTED if self._texts.last_is_untrusted else Origin.USER
        yield from self._attack_findings(attacks, self._newest, origin)
        if self._joined is not None:
            found = self._attack_findings(attacks, Reading(self._joined.text), Origin.HISTORY)
            yield from _crossing(self._joined, found, len(self._current), least=Action.WARN)
        for reading in self._untrusted:
            yield from _whole(self._attack_findings(attacks, reading, Origin.UNTRUSTED))

    def _attack_findings(self, attacks: AttackPatterns, text: Reading, origin: Origin) -> Iterator[Finding]:
        untrusted = origin is Origin.UNTRUSTED
        category = (self._policy.untrusted if untrusted else self._policy.input.categories).get(ATTACK_CATEGORY)
        if category is None:
            return
        for attack in attacks.find(text, origin=origin):
            action = category.action if untrusted else self._policy.families.get(attack.family, category.action)
            yield _attack_finding(attack, category, action)

    # The classifier

    def _questions(self) -> Iterator[Question]:
        untrusted = [*self._untrusted]
        if self._texts.last_is_untrusted:
            untrusted.append(self._newest)
        else:
            yield Question(self._newest.undisguised, Part.CURRENT)
            for hidden in self._newest.decoded:
                yield Question(hidden.text, Part.CURRENT)
            for sentence in _sentences(self._newest.undisguised):
                yield Question(sentence, Part.SENTENCE)
        if self._joined is not None:
            yield Question(for_classifier(self._joined.text), Part.JOINED)
            yield Question(for_classifier(self._joined.before), Part.BEFORE)
        # The newest first: of very many the last are not looked at in time.
        for said in reversed(self._history):
            yield Question(said.undisguised, Part.HISTORY)
        if any(category.levels.steps for category in self._policy.untrusted.values()):
            for reading in untrusted:
                yield Question(reading.undisguised, Part.UNTRUSTED)

    def _classifier_findings(self) -> Iterator[Finding]:
        way, replies = self._policy.input.categories, self._replies
        length = len(self._current)
        current = list(_judged(replies.get(Part.CURRENT, ()), way, end=length))
        yield from current
        for finding in _judged(replies.get(Part.SENTENCE, ()), way, end=length):
            # One sentence of many: it counts where it is beyond doubt, and says what the whole does not.
            outcome = finding.outcome
            beyond_doubt = finding.score >= way[outcome.category].levels.steps[0][0]
            if beyond_doubt and not any(_says_as_much(other.outcome, outcome) for other in current):
                yield finding
        if Part.BEFORE in replies:
            # What the new message adds to those before it, or makes of them.
            apart = [*current, *_judged(replies[Part.BEFORE], way, end=length)]
            for finding in _judged(replies.get(Part.JOINED, ()), way, end=length):
                if not any(_says_as_much(other.outcome, finding.outcome) for other in apart):
                    yield finding
        for finding in _judged(replies.get(Part.HISTORY, ()), way, end=0):
            if finding.outcome.action.refuses:
                yield finding
        yield from _judged(replies.get(Part.UNTRUSTED, ()), self._policy.untrusted, end=0)


def _sentences(text: str) -> Sequence[str]:
    """The sentences of a text in which one could hide; of very many the first and the last."""
    if len(text) <= _LONG:
        return ()
    found = [text[stretch.begins : stretch.end] for stretch in stretches(text, _SENTENCE)]
    rest = text[sum(map(len, found)) :]
    if rest.strip():
        found.append(rest)
    return (
        found
        if len(found) <= _MOST_SENTENCES
        else [*found[: _MOST_SENTENCES // 3], *found[-2 * _MOST_SENTENCES // 3 :]]
    )


def classifier_outcomes(
    scores: Scores, categories: Mapping[str, CategoryPolicy], *, streamed: bool = False
) -> list[tuple[Outcome, float]]:
    """What a policy makes of the classifier's scores, with the score behind it, strictest first.

    `streamed`: of one stretch of an answer, and not of a whole text.
    """
    found = []
    for name, score in _category_scores(scores):
        category = categories.get(name)
        if category is None:
            continue
        action = (category.stream_levels if streamed else category.levels).action(score)
        if action is not None:
            found.append((category.outcome(rule=CLASSIFIER_RULE, layer=Layer.CLASSIFIER, action=action), score))
    return sorted(found, key=lambda entry: (-entry[0].action, -entry[1]))


def _category_scores(scores: Scores) -> Iterator[tuple[str, float]]:
    for name in HARM_CATEGORIES:
        yield name, scores.categories.get(name, 0.0)
    yield ATTACK_CATEGORY, scores.attack


def _judged(replies: Sequence[Scores], categories: Mapping[str, CategoryPolicy], *, end: int) -> Iterator[Finding]:
    """The findings of the worst of several readings of one text."""
    best: dict[str, Finding] = {}
    for scores in replies:
        for outcome, score in classifier_outcomes(scores, categories):
            earlier = best.get(outcome.category)
            if earlier is None or earlier.score < score:
                best[outcome.category] = Finding(0, end, outcome, score)
    yield from best.values()


def _says_as_much(one: Outcome, other: Outcome) -> bool:
    return one.category == other.category and one.action >= other.action


def _refusals(text: str, way: WayPolicy) -> Sequence[Finding]:
    """What the rules refuse in a text that nothing is redacted in."""
    return Scanner(way.rules, way.outcomes, least=Action.HOLD).feed(text, last=True)


def _whole(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Findings in a text that is not the new message: offsets are in that, so theirs are empty."""
    for finding in findings:
        yield Finding(0, 0, finding.outcome, finding.score)


def _crossing(
    joined: JoinedText, findings: Iterable[Finding], length: int, *, least: Action = Action.HOLD
) -> Iterator[Finding]:
    """Findings that need both the new message and what was said before it."""
    for finding in findings:
        if finding.outcome.action >= least and joined.crosses(finding.start, finding.end):
            yield Finding(0, length, finding.outcome, finding.score)


def _attack_finding(attack: AttackFinding, category: CategoryPolicy, action: Action) -> Finding:
    rule = f"{_ATTACKS_RULE}{attack.family}"
    return Finding(attack.start, attack.end, category.outcome(rule=rule, layer=Layer.ATTACKS, action=action))
