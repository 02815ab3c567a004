"""The check of what a user sends."""

from __future__ import annotations

from collections.abc import Sequence

from services.moderation.gate import apply_retractions, resolve
from services.moderation.model import Action, Finding, Verdict
from services.moderation.rules import RuleSet
from services.moderation.scanner import Scanner


def check_input(texts: Sequence[str], rules: RuleSet) -> Verdict:
    """Judge the last of `texts` with those before it.

    A text that would have been blocked is blocked also when it is sent as history; such a finding has the empty range
    `[0, 0)`, for offsets are in the last text. Redaction of history is the business of the turn that it came with.
    """
    *history, current = texts
    findings = [
        Finding(0, 0, finding.outcome)
        for text in history
        for finding in Scanner(rules).feed(text, last=True)
        if finding.outcome.action is Action.BLOCK
    ]
    found = Scanner(rules).feed(current, last=True)
    findings += found
    action = max((finding.outcome.action for finding in findings), default=Action.ALLOW)
    redacted = apply_retractions(current, resolve(found)[0]) if action is Action.REDACT else ""
    return Verdict(action, tuple(findings), redacted)
