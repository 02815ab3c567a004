"""Small policies for tests."""

from __future__ import annotations

from services.moderation.model import Action, Outcome
from services.moderation.policy import UserPolicy, WayPolicy
from services.moderation.policy_file import StreamEntry
from services.moderation.rules.candidate import Check
from services.moderation.rules.pattern import parse_pattern
from services.moderation.rules.rule_set import RuleSet, RuleSpec


def rule(
    pattern: str,
    action: Action = Action.REDACT,
    *,
    name: str = "rule",
    replacement: str = "[x]",
    ignore_case: bool = False,
    check: Check | None = None,
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


def user_policy(rule_set: RuleSet, *, max_held: int = 256, segment: int = 300, ahead: int = 900) -> UserPolicy:
    """A policy of rules alone."""
    way = WayPolicy(rules=rule_set, outcomes=rule_set.outcomes, categories={})
    stream = StreamEntry(max_held=max_held, segment=max(segment, 50), ahead=ahead).model_copy(
        update={"segment": segment}
    )
    return UserPolicy(version="test", input=way, output=way, untrusted={}, families={}, stream=stream)


class SamePoints:
    """A classifier's operating points for tests: one half each."""

    def threshold(self, direction: object, head: str, point: str, *, streamed: bool = False) -> float:
        return 0.5
