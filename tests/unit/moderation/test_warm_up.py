"""Warming up judges a text of every kind, and nothing of it stays."""

from __future__ import annotations

from services.moderation.attacks.patterns import AttackPatterns
from services.moderation.judge import InputTexts, Judge
from services.moderation.model import Action
from services.moderation.policy import PACKAGED_POLICY, Policy
from services.moderation.warm_up import warm_up
from tests.unit.moderation.policies import SamePoints


def test_the_first_judgement_is_then_as_good_as_any_other() -> None:
    judge = Judge(attacks=AttackPatterns.load())
    policy = Policy.load(PACKAGED_POLICY, points=SamePoints())
    warm_up(judge, policy)
    verdict = judge.begin(InputTexts(["card 4111 1111 1111 1111."]), policy.for_user(tenant_id="", tier="")).verdict()
    assert verdict.action is Action.REDACT
