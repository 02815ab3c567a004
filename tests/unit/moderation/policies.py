"""Small policies for tests."""

from __future__ import annotations

from collections.abc import Callable

from services.moderation.model import Action, Outcome
from services.moderation.pattern import parse_pattern
from services.moderation.rules import RuleSet, RuleSpec


def rule(
    pattern: str,
    action: Action = Action.REDACT,
    *,
    name: str = "rule",
    replacement: str = "[x]",
    ignore_case: bool = False,
    check: Callable[[str], bool] | None = None,
    max_bytes: int | None = None,
) -> RuleSpec:
    return RuleSpec(
        pattern=parse_pattern(pattern),
        ignore_case=ignore_case,
        check=check,
        max_bytes=max_bytes,
        outcome=Outcome("category", name, action, replacement),
    )


def rules(*specs: RuleSpec) -> RuleSet:
    return RuleSet(specs)
