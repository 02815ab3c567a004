"""The policy, ready for use: what is looked for, and what each finding means for a user."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal, Protocol

from services.moderation.model import Action, Direction, Layer, Outcome
from services.moderation.policy_file import (
    ATTACK_CATEGORY,
    CategoryEntry,
    GuardEntry,
    PolicyFile,
    StreamEntry,
    Threshold,
    Treatment,
    apply,
)
from services.moderation.rules.rule_set import RuleSet, RulesTooLargeError
from services.runtime.settings import SettingsError
from services.runtime.typed_file import load_typed_file

PACKAGED_POLICY = Path(__file__).with_name("policy.yaml")

_Head = Literal["harm", "attack"]


class OperatingPoints(Protocol):
    """Scores of the classifier by the share of harmless texts that reach them."""

    def threshold(self, direction: Direction, head: _Head, point: str, *, streamed: bool = False) -> float:
        """The score of a point such as `fpr_1%`.

        Args:
            direction: Which way the texts go.
            head: What the score is of.
            point: The false-positive rate.
            streamed: Whether it is that of the worst stretch of an answer, and not that of a whole text.

        Raises:
            KeyError: The model has no such point; the text names those it has.
        """
        ...


@dataclass(frozen=True, slots=True)
class Levels:
    """From which scores of the classifier what is done, strictest first. Empty: it has no say."""

    steps: tuple[tuple[float, Action], ...] = ()

    def action(self, score: float) -> Action | None:
        """What is done about a score; None when it is too low."""
        return next((action for least, action in self.steps if score >= least), None)


@dataclass(frozen=True, slots=True)
class CategoryPolicy:
    """What is done about a category, one way, by the layers that are not rules.

    Of an input these do not say where something stands, so nothing is redacted for them: they warn instead.
    """

    name: str
    action: Action
    replacement: str
    note: str
    closed: bool
    levels: Levels
    stream_levels: Levels
    """For single stretches of an answer."""

    def outcome(self, *, rule: str, layer: Layer, action: Action | None = None) -> Outcome:
        """What a finding of a layer means."""
        action = self.action if action is None else action
        return Outcome(self.name, rule, action, self.replacement if action > Action.WARN else "", layer)


@dataclass(frozen=True, slots=True)
class WayPolicy:
    """What is looked for in what goes one way, and what it means."""

    rules: RuleSet
    outcomes: tuple[Outcome, ...]
    """Of the rules, by their place."""
    categories: Mapping[str, CategoryPolicy]

    @property
    def asks_classifier(self) -> bool:
        """Whether the classifier has a say."""
        return any(category.levels.steps for category in self.categories.values())

    @property
    def closed(self) -> tuple[str, ...]:
        """Categories without whose check nothing passes."""
        return tuple(name for name, category in self.categories.items() if category.closed)

    @property
    def classifier_is_needed(self) -> bool:
        """Whether nothing passes without the classifier."""
        return any(category.closed for category in self.categories.values() if category.levels.steps)


@dataclass(frozen=True, slots=True)
class GuardPolicy:
    """When and how a guard model is asked."""

    model: str
    template: Literal["llama_guard_3", "yes_no"]
    unsure_harm: float
    """Score of the classifier from which an input that passes is shown to it first."""
    unsure_attack: float
    background: float
    """Share of what was let through that it looks at afterwards."""
    timeout_s: float
    max_characters: int


@dataclass(frozen=True, slots=True)
class UserPolicy:
    """The policy for users of one tenant and tier."""

    version: str
    input: WayPolicy
    output: WayPolicy
    untrusted: Mapping[str, CategoryPolicy]
    families: Mapping[str, Action]
    """What is done about families of attack patterns in what users send, where it is not what the category says."""
    stream: StreamEntry
    guard: GuardPolicy | None = None


@dataclass(frozen=True, slots=True)
class ReviewPolicy:
    """What is written down."""

    record: Action
    queue: Action
    keeps: Callable[[bool], bool]
    """Whether a text is kept, by whether its event waits for a reviewer."""
    text_for: timedelta
    event_for: timedelta


class Policy:
    """A policy file with all that is compiled from it."""

    def __init__(self, file: PolicyFile, *, points: OperatingPoints | None) -> None:
        self._file = file
        self._points = points
        self._users: dict[tuple[int, ...], UserPolicy] = {}
        self.version = file.version
        self.guard = self._guard(file.guard) if file.guard is not None else None
        self.review = _review(file)
        variants = [categories for _, categories in file.variants()]
        self._input_rules = _rule_set(variants, Direction.INPUT)
        self._output_rules = _rule_set(variants, Direction.OUTPUT)
        for categories in variants:
            # Refuses what the classifier has not, before anybody is judged by it.
            _check_levels(self._user_policy(categories))

    @classmethod
    def load(cls, path: Path, *, points: OperatingPoints | None = None) -> Policy:
        """Read and compile a policy file.

        Args:
            path: The file.
            points: Of the classifier; None when there is none, and then a file that asks it is refused.

        Raises:
            SettingsError: naming the file, the place, and what is wrong there.
        """
        file = load_typed_file(path, PolicyFile, kind="policy")
        try:
            return cls(file, points=points)
        except (RulesTooLargeError, _PointError) as error:
            raise SettingsError(f"policy file {path}: {error}") from error

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of all categories."""
        return tuple(self._file.categories)

    def for_user(self, *, tenant_id: str, tier: str) -> UserPolicy:
        """The policy for a user."""
        overrides = self._file.overrides
        applying = tuple(
            place for place, override in enumerate(overrides) if override.is_for(tenant_id=tenant_id, tier=tier)
        )
        found = self._users.get(applying)
        if found is None:
            found = self._users[applying] = self._user_policy(
                apply(self._file.categories, [overrides[place] for place in applying])
            )
        return found

    def _user_policy(self, categories: Mapping[str, CategoryEntry]) -> UserPolicy:
        def way(direction: Direction, rules: _Rules) -> WayPolicy:
            return WayPolicy(
                rules=rules.compiled,
                outcomes=tuple(_outcome(categories, name, rule, direction) for name, rule in rules.places),
                categories={
                    name: self._category(name, _treatment(category, direction), direction)
                    for name, category in categories.items()
                },
            )

        return UserPolicy(
            version=self.version,
            input=way(Direction.INPUT, self._input_rules),
            output=way(Direction.OUTPUT, self._output_rules),
            untrusted={
                name: self._category(name, category.untrusted, Direction.INPUT)
                for name, category in categories.items()
                if category.untrusted is not None
            },
            families={
                family: _ACTIONS[treatment.action]
                for category in categories.values()
                for family, treatment in category.families.items()
            },
            stream=self._file.stream,
            guard=self.guard,
        )

    def _guard(self, guard: GuardEntry) -> GuardPolicy:
        def unsure_from(head: _Head) -> float:
            return self._score("guard", head, guard.unsure_from, Direction.INPUT)

        return GuardPolicy(
            model=guard.model,
            template=guard.template,
            unsure_harm=unsure_from("harm"),
            unsure_attack=unsure_from("attack"),
            background=guard.background,
            timeout_s=guard.timeout_ms / 1000,
            max_characters=guard.max_characters,
        )

    def _category(self, name: str, treatment: Treatment, direction: Direction) -> CategoryPolicy:
        return CategoryPolicy(
            name=name,
            action=_unless_exact(_ACTIONS[treatment.action], direction),
            replacement=treatment.replacement,
            note=treatment.note,
            closed=treatment.unavailable == "closed" and treatment.action != "allow",
            levels=self._levels(name, treatment, direction),
            stream_levels=self._levels(name, treatment, direction, streamed=direction is Direction.OUTPUT),
        )

    def _levels(self, name: str, treatment: Treatment, direction: Direction, *, streamed: bool = False) -> Levels:
        def score(threshold: Threshold) -> float:
            return self._score(f"category {name}", _head(name), threshold, direction, streamed=streamed)

        if treatment.action == "allow":
            return Levels()
        steps = []
        if treatment.threshold is not None:
            steps.append((score(treatment.threshold), _unless_exact(_ACTIONS[treatment.action], direction)))
        if treatment.warn_threshold is not None:
            steps.append((score(treatment.warn_threshold), Action.WARN))
        return Levels(tuple(steps))

    def _score(
        self, place: str, head: _Head, threshold: Threshold, direction: Direction, *, streamed: bool = False
    ) -> float:
        if self._points is None:
            raise _PointError(f"{place} asks the classifier, and there is none")
        if not isinstance(threshold, str):
            return threshold
        try:
            return self._points.threshold(direction, head, threshold, streamed=streamed)
        except KeyError as error:
            raise _PointError(f"{place}: the classifier has no operating point {error.args[0]}") from error


class _PointError(ValueError):
    """The policy asks for what the classifier has not, or for scores of it that make no sense together."""


def _unless_exact(action: Action, direction: Direction) -> Action:
    return Action.WARN if action is Action.REDACT and direction is Direction.INPUT else action


def _check_levels(policy: UserPolicy) -> None:
    for categories in (policy.input.categories, policy.output.categories, policy.untrusted):
        for name, category in categories.items():
            for levels in (category.levels, category.stream_levels):
                scores = [score for score, _ in levels.steps]
                if scores != sorted(scores, reverse=True):
                    threshold, warns = scores
                    raise _PointError(
                        f"category {name}: warn_threshold is the score {warns:.4g}, above threshold ({threshold:.4g})"
                    )


@dataclass(frozen=True, slots=True)
class _Rules:
    """Rules that are searched for together, and whose they are: category and name."""

    compiled: RuleSet
    places: tuple[tuple[str, str], ...]


def _head(category: str) -> _Head:
    return "attack" if category == ATTACK_CATEGORY else "harm"


_ACTIONS = {action.name.lower(): action for action in Action}


def _rule_set(variants: Sequence[Mapping[str, CategoryEntry]], direction: Direction) -> _Rules:
    """The rules of one way. Output rules that allow for everybody are left out: nobody is told of their findings."""
    places = [
        (name, rule.name)
        for name, category in variants[0].items()
        for rule in category.rules
        if direction is Direction.INPUT
        or any(_outcome(v, name, rule.name, direction).action is not Action.ALLOW for v in variants)
    ]
    entries = {(name, rule.name): rule for name, category in variants[0].items() for rule in category.rules}
    specs = [entries[place].spec(_outcome(variants[0], *place, direction)) for place in places]
    return _Rules(RuleSet(specs), tuple(places))


def _outcome(categories: Mapping[str, CategoryEntry], name: str, rule: str, direction: Direction) -> Outcome:
    category = categories[name]
    entry = next(entry for entry in category.rules if entry.name == rule)
    own = entry.input if direction is Direction.INPUT else entry.output
    treatment = own or _treatment(category, direction)
    return Outcome(name, rule, _ACTIONS[treatment.action], treatment.replacement)


def _treatment(category: CategoryEntry, direction: Direction) -> Treatment:
    return category.input if direction is Direction.INPUT else category.output


def _review(file: PolicyFile) -> ReviewPolicy:
    review = file.review
    keep = review.keep_text
    return ReviewPolicy(
        record=_ACTIONS[review.record],
        queue=_ACTIONS[review.queue],
        keeps=lambda queued: keep == "recorded" or (keep == "queued" and queued),
        text_for=timedelta(days=review.text_days),
        event_for=timedelta(days=review.event_days),
    )
