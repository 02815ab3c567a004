"""The policy file: typed, versioned YAML that says what is looked for and what is done about it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self

import re2
from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.moderation.model import Action, Outcome
from services.moderation.rules.checks import CHECKS
from services.moderation.rules.pattern import PatternError, parse_pattern
from services.moderation.rules.rule_set import Rule, RuleSpec

HARM_CATEGORIES = ("harassment", "hate", "self-harm", "sexual", "violence", "illicit")
"""Those that the classifier tells apart within harm."""
ATTACK_CATEGORY = "jailbreak"
"""That of attack patterns, of the classifier's score for attacks, and of answers that give instructions away."""
CLASSIFIED = (*HARM_CATEGORIES, ATTACK_CATEGORY)

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_/-]{0,63}$")]
ActionName = Literal["allow", "warn", "redact", "hold", "block"]
Threshold = Annotated[float, Field(ge=0, le=1)] | Annotated[str, Field(pattern=r"^fpr_[0-9.]+%$")]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Treatment(_Strict):
    """What is done about findings of a category that go one way."""

    action: ActionName = Field(description="allow reports the finding and changes nothing")
    replacement: str = Field("", max_length=500, description="stands in the place of what is taken out")
    threshold: Threshold | None = Field(
        None,
        description="score of the classifier from which `action` is done: a number, or a false-positive rate of the "
        "model card such as fpr_1%; without it the classifier has no say",
    )
    warn_threshold: Threshold | None = Field(None, description="score from which it is warned of; under `threshold`")
    note: str = Field("", max_length=2000, description="what the model is told when it is warned of")
    unavailable: Literal["open", "closed"] = Field(
        "closed", description="what passes when it cannot be checked: everything, or nothing"
    )


_THRESHOLDS = frozenset(("threshold", "warn_threshold"))


class TreatmentChange(_Strict):
    """What of a treatment is different for some users; what is not said stays."""

    action: ActionName | None = None
    replacement: str | None = Field(None, max_length=500)
    threshold: Threshold | None = None
    warn_threshold: Threshold | None = None
    note: str | None = Field(None, max_length=2000)
    unavailable: Literal["open", "closed"] | None = None

    def applied_to(self, treatment: Treatment) -> Treatment:
        """The treatment with what is said here."""
        said = {name: value for name in self.model_fields_set if (value := getattr(self, name)) is not None}
        # Who allows a category has no use for its thresholds.
        concerned = _THRESHOLDS if self.action == "allow" else _THRESHOLDS & self.model_fields_set
        cleared = dict.fromkeys(concerned - said.keys())
        return treatment.model_copy(update={**said, **cleared})


class RuleTreatment(_Strict):
    """What is done about the matches of one rule, instead of what is done in its category."""

    action: ActionName
    replacement: str = Field("", max_length=500)


class RuleEntry(_Strict):
    """One pattern of a category."""

    name: Name
    pattern: str = Field(min_length=1, max_length=4000, description="see `pattern.py` for the dialect")
    ignore_case: bool = False
    check: str = Field("", description="one of `checks.py`: says which part of a match counts, if any")
    max_bytes: int | None = Field(None, ge=16, le=65_536, description="for a pattern that has no longest match")
    input: RuleTreatment | None = Field(None, description="instead of the category's")
    output: RuleTreatment | None = Field(None, description="instead of the category's")

    @model_validator(mode="after")
    def _can_be_compiled(self) -> Self:
        try:
            pattern = parse_pattern(self.pattern)
        except PatternError as error:
            raise ValueError(f"rule {self.name}: {error}") from error
        if pattern.min_length == 0:
            raise ValueError(f"rule {self.name}: the pattern matches the empty text")
        if self.check and self.check not in CHECKS:
            raise ValueError(f"rule {self.name}: no check {self.check!r}; there are {', '.join(sorted(CHECKS))}")
        if pattern.max_length is None and self.max_bytes is None:
            raise ValueError(f"rule {self.name}: the pattern has no longest match; bound it, or set max_bytes")
        if pattern.max_length is not None and self.max_bytes is not None:
            raise ValueError(f"rule {self.name}: max_bytes is for patterns without longest match")
        try:
            Rule(self.spec(Outcome("", self.name, Action.ALLOW, "")))
        except re2.error as error:
            raise ValueError(f"rule {self.name}: RE2 refuses the pattern: {_text(error)}") from error
        return self

    def spec(self, outcome: Outcome) -> RuleSpec:
        """The rule as it is searched for."""
        return RuleSpec(
            pattern=parse_pattern(self.pattern),
            ignore_case=self.ignore_case,
            check=CHECKS[self.check] if self.check else None,
            max_bytes=self.max_bytes,
            outcome=outcome,
        )


class CategoryEntry(_Strict):
    """What is treated alike."""

    description: str = Field("", max_length=1000)
    input: Treatment
    output: Treatment
    untrusted: Treatment | None = Field(
        None,
        description="what is done about findings in text that no user wrote, such as a tool's result; default: allow",
    )
    rules: list[RuleEntry] = Field(default_factory=list)
    families: dict[Name, RuleTreatment] = Field(
        default_factory=dict, description="of attack patterns, what is done about some families in what users send"
    )


class CategoryChange(_Strict):
    """What of a category is different for some users."""

    input: TreatmentChange | None = None
    output: TreatmentChange | None = None
    untrusted: TreatmentChange | None = None
    rules: dict[Name, RuleChange] = Field(default_factory=dict)
    families: dict[Name, RuleTreatment] = Field(default_factory=dict)

    def applied_to(self, category: CategoryEntry) -> CategoryEntry:
        """The category with what is said here."""
        allow = Treatment(action="allow")
        return category.model_copy(
            update={
                "input": self.input.applied_to(category.input) if self.input else category.input,
                "output": self.output.applied_to(category.output) if self.output else category.output,
                "untrusted": self.untrusted.applied_to(category.untrusted or allow)
                if self.untrusted
                else category.untrusted,
                "rules": [
                    self.rules[rule.name].applied_to(rule) if rule.name in self.rules else rule
                    for rule in category.rules
                ],
                "families": {**category.families, **self.families},
            }
        )


class RuleChange(_Strict):
    """What of a rule is different for some users."""

    input: RuleTreatment | None = None
    output: RuleTreatment | None = None

    def applied_to(self, rule: RuleEntry) -> RuleEntry:
        """The rule with what is said here."""
        return rule.model_copy(update={"input": self.input or rule.input, "output": self.output or rule.output})


class OverrideEntry(_Strict):
    """What is different for some users. Of several that apply, what a later one says counts."""

    tenants: list[str] = Field(default_factory=list, description="those it is for; empty for all")
    tiers: list[str] = Field(default_factory=list, description="those it is for; empty for all")
    categories: dict[Name, CategoryChange] = Field(min_length=1)

    @model_validator(mode="after")
    def _is_for_somebody(self) -> Self:
        if not self.tenants and not self.tiers:
            raise ValueError("say whom it is for: tenants, tiers or both; what is for all stands under `categories`")
        return self

    def is_for(self, *, tenant_id: str, tier: str) -> bool:
        """Whether it is for such a user."""
        return (not self.tenants or tenant_id in self.tenants) and (not self.tiers or tier in self.tiers)


class StreamEntry(_Strict):
    """How an answer is shown while it is being written."""

    max_held: int = Field(
        256, ge=1, le=10_000, description="code points that may wait until it is decided whether they begin a match"
    )
    segment: int = Field(
        300, ge=50, le=5_000, description="code points from which the end of a sentence ends a segment"
    )
    ahead: int = Field(
        900,
        ge=0,
        le=100_000,
        description="code points that may be shown before the classifier has said something about them; 0 shows only "
        "segments that it has cleared",
    )
    patience_ms: int = Field(
        1_000, ge=10, le=60_000, description="how long a text waits for a layer, or for Moderation"
    )


class GuardEntry(_Strict):
    """A guard model that our own Inference serves: for what the classifier is unsure of, and in the background."""

    model: str = Field(min_length=1, max_length=128, description="its name in the models file")
    template: Literal["llama_guard_3", "yes_no"] = Field("llama_guard_3", description="how it is asked and answers")
    unsure_from: Threshold = Field("fpr_5%", description="score from which an input that passes is shown to it first")
    background: float = Field(0.0, ge=0, le=1, description="share of what was let through that it looks at afterwards")
    timeout_ms: int = Field(2_000, ge=100, le=60_000)
    max_characters: int = Field(8_000, ge=100, le=100_000, description="of the end of a text that it is shown")


class ReviewEntry(_Strict):
    """What is written down, for whom, and for how long."""

    record: ActionName = Field("warn", description="the mildest action that is written down")
    queue: ActionName = Field("hold", description="the mildest action that waits for a reviewer")
    keep_text: Literal["never", "queued", "recorded"] = Field(
        "queued", description="of which events the text is kept; of the others only its hash and the places"
    )
    text_days: int = Field(30, ge=1, le=3_650, description="how long a text is kept")
    event_days: int = Field(365, ge=1, le=3_650, description="how long an event is kept")


class PolicyFile(_Strict):
    """The whole file."""

    version: str = Field(min_length=1, max_length=64, description="stamped on every verdict; change it with the file")
    stream: StreamEntry = Field(default_factory=StreamEntry)
    review: ReviewEntry = Field(default_factory=ReviewEntry)
    guard: GuardEntry | None = None
    categories: dict[Name, CategoryEntry] = Field(min_length=1)
    overrides: list[OverrideEntry] = Field(default_factory=list, max_length=64)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [rule.name for category in self.categories.values() for rule in category.rules]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two rules have the same name: {', '.join(repeated)}")
        return self

    @model_validator(mode="after")
    def _overrides_change_what_is_there(self) -> Self:
        for place, override in enumerate(self.overrides):
            for name, change in override.categories.items():
                category = self.categories.get(name)
                if category is None:
                    raise ValueError(f"overrides[{place}]: there is no category {name}")
                if unknown := sorted(change.rules.keys() - {rule.name for rule in category.rules}):
                    raise ValueError(f"overrides[{place}]: category {name} has no rule {', '.join(unknown)}")
        return self

    @model_validator(mode="after")
    def _treatments_make_sense(self) -> Self:
        for place, categories in self.variants():
            for name, category in categories.items():
                _check_category(f"{place}{name}", name, category)
        return self

    def variants(self) -> Iterator[tuple[str, dict[str, CategoryEntry]]]:
        """The categories as they are, and as each single override makes them."""
        yield "categories.", self.categories
        for place, override in enumerate(self.overrides):
            yield f"overrides[{place}].categories.", apply(self.categories, [override])


def apply(categories: dict[str, CategoryEntry], overrides: list[OverrideEntry]) -> dict[str, CategoryEntry]:
    """The categories with what is different for some users."""
    changed = dict(categories)
    for override in overrides:
        for name, change in override.categories.items():
            changed[name] = change.applied_to(changed[name])
    return changed


def _check_category(place: str, name: str, category: CategoryEntry) -> None:
    if category.families and name != ATTACK_CATEGORY:
        raise ValueError(f"{place}.families: only {ATTACK_CATEGORY} has families of attacks")
    ways = {"input": category.input, "output": category.output, "untrusted": category.untrusted}
    for way, treatment in ways.items():
        if treatment is None:
            continue
        asked = treatment.threshold is not None or treatment.warn_threshold is not None
        if asked and name not in CLASSIFIED:
            raise ValueError(f"{place}.{way}: the classifier knows nothing of it; it knows {', '.join(CLASSIFIED)}")
        if asked and way == "output" and name == ATTACK_CATEGORY:
            raise ValueError(f"{place}.output: the classifier looks for attacks in input only")
        if treatment.warn_threshold is not None and treatment.threshold is None:
            raise ValueError(f"{place}.{way}: warn_threshold without threshold; set action: warn and threshold instead")
        if asked and treatment.action == "allow":
            raise ValueError(f"{place}.{way}: threshold of what is allowed; set threshold and warn_threshold to null")
    if category.untrusted is not None and category.untrusted.action == "redact":
        raise ValueError(f"{place}.untrusted: nothing is redacted in what no user wrote; warn, hold or block")
    exact = category.input.threshold is None and name != ATTACK_CATEGORY
    if category.input.action == "redact" and not exact:
        raise ValueError(f"{place}.input: only rules say exactly what to redact; warn, hold or block")
    if any(treatment.action == "redact" for treatment in category.families.values()):
        raise ValueError(f"{place}.families: an attack is not redacted; warn, hold or block")


def _text(error: re2.error) -> str:
    (reason,) = error.args
    return reason.decode() if isinstance(reason, bytes) else str(reason)


CategoryChange.model_rebuild()
