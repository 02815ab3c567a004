"""The policy: a typed, versioned file that says what is looked for and what is done about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

import re2
from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.moderation.checks import CHECKS
from services.moderation.model import Action, Direction, Outcome
from services.moderation.pattern import PatternError, parse_pattern
from services.moderation.rules import Rule, RuleSet, RuleSpec, RulesTooLargeError
from services.runtime.settings import SettingsError
from services.runtime.typed_file import load_typed_file

PACKAGED_POLICY = Path(__file__).with_name("policy.yaml")

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_/-]{0,63}$")]
ActionName = Literal["allow", "redact", "block"]


class Treatment(BaseModel):
    """What is done about a finding that goes one way."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    action: ActionName = Field(description="allow reports the finding and changes nothing")
    replacement: str = Field("", max_length=500, description="stands in the place of what is redacted or blocked")


class RuleEntry(BaseModel):
    """One pattern of a category."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Name
    pattern: str = Field(min_length=1, max_length=4000, description="see `pattern.py` for the dialect")
    ignore_case: bool = False
    check: str = Field("", description="one of `checks.py`: says of each match whether it counts")
    max_bytes: int | None = Field(None, ge=16, le=65_536, description="for a pattern that has no longest match")
    input: Treatment | None = Field(None, description="instead of the category's")
    output: Treatment | None = Field(None, description="instead of the category's")

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
            Rule(self._spec(Outcome("", self.name, Action.ALLOW, "")))
        except re2.error as error:
            raise ValueError(f"rule {self.name}: RE2 refuses the pattern: {_text(error)}") from error
        return self

    def spec(self, category: str, treatment: Treatment) -> RuleSpec:
        """The rule as it is in a direction whose category is treated so."""
        outcome = Outcome(category, self.name, Action[treatment.action.upper()], treatment.replacement)
        return self._spec(outcome)

    def _spec(self, outcome: Outcome) -> RuleSpec:
        return RuleSpec(
            pattern=parse_pattern(self.pattern),
            ignore_case=self.ignore_case,
            check=CHECKS[self.check] if self.check else None,
            max_bytes=self.max_bytes,
            outcome=outcome,
        )


class CategoryEntry(BaseModel):
    """Rules that are treated alike."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    description: str = Field("", max_length=1000)
    input: Treatment
    output: Treatment
    rules: list[RuleEntry] = Field(min_length=1)


class PolicyFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    version: str = Field(min_length=1, max_length=64, description="stamped on every verdict; change it with the file")
    max_held: int = Field(256, ge=1, le=10_000, description="code points of an answer that may wait for a decision")
    categories: dict[Name, CategoryEntry] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [rule.name for category in self.categories.values() for rule in category.rules]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two rules have the same name: {', '.join(repeated)}")
        return self

    def specs(self, direction: Direction) -> Iterator[RuleSpec]:
        """All rules with what they mean in a direction."""
        for name, category in self.categories.items():
            for rule in category.rules:
                if direction is Direction.INPUT:
                    yield rule.spec(name, rule.input or category.input)
                else:
                    yield rule.spec(name, rule.output or category.output)


@dataclass(frozen=True, slots=True)
class Policy:
    """The policy, ready for use. Output rules that allow are left out: nobody is told of their findings."""

    version: str
    max_held: int
    input_rules: RuleSet
    output_rules: RuleSet

    @classmethod
    def load(cls, path: Path) -> Policy:
        """Read and compile a policy file.

        Raises:
            SettingsError: naming the file, the rule, and what is wrong with it.
        """
        file = load_typed_file(path, PolicyFile, kind="policy")
        output = [spec for spec in file.specs(Direction.OUTPUT) if spec.outcome.action is not Action.ALLOW]
        try:
            return cls(
                version=file.version,
                max_held=file.max_held,
                input_rules=RuleSet(list(file.specs(Direction.INPUT))),
                output_rules=RuleSet(output),
            )
        except RulesTooLargeError as error:
            raise SettingsError(f"policy file {path}: {error}") from error


def _text(error: re2.error) -> str:
    (reason,) = error.args
    return reason.decode() if isinstance(reason, bytes) else str(reason)
