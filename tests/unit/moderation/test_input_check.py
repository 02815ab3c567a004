"""Many inputs at once share one classifier."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from opentelemetry.metrics import NoOpMeterProvider

from services.moderation.attacks.patterns import AttackPatterns
from services.moderation.classifier import Scores
from services.moderation.input_check import InputCheck
from services.moderation.judge import InputTexts, Judge, Judging
from services.moderation.metrics import ModerationMetrics
from services.moderation.model import Direction, Layer
from services.moderation.policy import PACKAGED_POLICY, Policy, UserPolicy
from services.moderation.policy_file import HARM_CATEGORIES
from services.moderation.scoring import Scoring
from tests.unit.moderation.policies import SamePoints

METRICS = ModerationMetrics(meter=NoOpMeterProvider().get_meter("test"))
POLICY = Policy.load(PACKAGED_POLICY, points=SamePoints()).for_user(tenant_id="", tier="free")


class Classifier:
    """Finds nothing, when it is let."""

    version = "test"

    def __init__(self) -> None:
        self.go = threading.Event()

    def classify(self, texts: Sequence[str], direction: Direction, *, quick: bool = False) -> list[Scores]:
        assert self.go.wait(20)
        return [Scores(0.01, 0.01, dict.fromkeys(HARM_CATEGORIES, 0.01), "linear") for _ in texts]


class WatchedJudge(Judge):
    """Knows the thread that it worked in."""

    thread: threading.Thread

    def begin(self, texts: InputTexts, policy: UserPolicy) -> Judging:
        self.thread = threading.current_thread()
        return super().begin(texts, policy)


@pytest.mark.parametrize(
    ("texts", "beside"), [(["hello"], False), (["x" * 5_000], True), (["x"] * 500, True)], ids=["short", "long", "many"]
)
async def test_what_takes_long_does_not_hold_up_the_streams(texts: list[str], beside: bool) -> None:
    judge = WatchedJudge(attacks=AttackPatterns.load())
    await InputCheck(judge=judge, scoring=None).check(InputTexts(texts), POLICY)
    assert (judge.thread is not threading.current_thread()) is beside


async def test_what_takes_long_waits_for_no_other_work() -> None:
    """Nor has other work, such as reading the policy again, to wait for it."""
    go = threading.Event()
    check = InputCheck(judge=Judge(attacks=AttackPatterns.load()), scoring=None)
    default = ThreadPoolExecutor(1)
    loop = asyncio.get_running_loop()
    loop.set_default_executor(default)
    waiting = loop.run_in_executor(default, go.wait, 20)
    try:
        async with asyncio.timeout(10):
            await check.check(InputTexts(["x" * 5_000]), POLICY)
        assert not waiting.done()
    finally:
        go.set()
        await waiting


async def test_a_long_history_leaves_room_for_others() -> None:
    classifier = Classifier()
    scoring = Scoring(classifier=classifier, metrics=METRICS)
    running = asyncio.create_task(scoring.run())
    check = InputCheck(judge=Judge(attacks=AttackPatterns.load()), scoring=scoring)
    try:
        flood = asyncio.create_task(check.check(InputTexts([f"text {number}" for number in range(1500)]), POLICY))
        for _ in range(5):
            await asyncio.sleep(0)
        other = asyncio.create_task(check.check(InputTexts(["hello"]), POLICY))
        for _ in range(5):
            await asyncio.sleep(0)
        classifier.go.set()
        (said,) = [result for result in (await other).layers if result.layer is Layer.CLASSIFIER]
        assert not said.unchecked
        await flood
    finally:
        classifier.go.set()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
