"""The answers of a peer: what they leave behind, and what becomes of them when the classifier is behind."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
from opentelemetry.metrics import NoOpMeterProvider

from services.moderation.answers import Answers
from services.moderation.classifier import Scores
from services.moderation.events import Events
from services.moderation.gate import Gate, apply_retractions
from services.moderation.guard.offers import GuardOffers
from services.moderation.metrics import ModerationMetrics
from services.moderation.model import Action, Direction, Event, Progress, Segment, Subject
from services.moderation.policy import PACKAGED_POLICY, Policy
from services.moderation.policy_file import HARM_CATEGORIES
from services.moderation.rules.candidate import Candidate, Span
from services.moderation.rules.checks import CHECKS
from services.moderation.scoring import Scoring
from services.runtime.clock import SystemClock
from tests.unit.moderation.policies import SamePoints

METRICS = ModerationMetrics(meter=NoOpMeterProvider().get_meter("test"))


class Recorder:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def record(self, event: Event) -> None:
        self.events.append(event)


class Classifier:
    """Blocks what says BAD, when it is let."""

    version = "test"

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.asked = threading.Event()

    def classify(self, texts: Sequence[str], direction: Direction, *, quick: bool = False) -> list[Scores]:
        self.asked.set()
        assert self.go.wait(20)
        if any("POISON" in text for text in texts):
            raise ValueError("cannot read it")
        return [
            Scores(score, 0.0, dict.fromkeys(HARM_CATEGORIES, score), "linear")
            for score in (0.9 if "BAD" in text else 0.1 for text in texts)
        ]


class Peer:
    """Answers, and what is said of them."""

    def __init__(self, policy: Policy, scoring: Scoring, offers: GuardOffers | None = None) -> None:
        self.recorder = Recorder()
        self.said: list[Progress] = []
        self._news = asyncio.Event()
        self.answers = Answers(
            policy=lambda: policy,
            scoring=scoring,
            events=Events(recorder=self.recorder, clock=SystemClock()),
            metrics=METRICS,
            on_progress=self._take,
            offers=offers,
        )

    def _take(self, generation_id: str, progress: Progress) -> None:
        self.said.append(progress)
        self._news.set()

    def say(self, text: str, *, last: bool = False, generation_id: str = "g") -> None:
        self.answers.take(Segment(generation_id, text, last=last, subject=Subject(generation_id, user_id="u")))

    async def done(self, answers: int = 1) -> Progress:
        """The last word on the last of so many answers."""
        async with asyncio.timeout(20):
            while sum(progress.done for progress in self.said) < answers:
                self._news.clear()
                await self._news.wait()
        return self.said[-1]


@asynccontextmanager
async def peer(
    classifier: Classifier,
    *,
    policy: Policy | None = None,
    longest_queue: int = 100,
    offers: GuardOffers | None = None,
) -> AsyncIterator[Peer]:
    scoring = Scoring(classifier=classifier, metrics=METRICS, longest_queue=longest_queue)
    running = asyncio.create_task(scoring.run())
    made = Peer(policy or Policy.load(PACKAGED_POLICY, points=SamePoints()), scoring, offers)
    try:
        yield made
    finally:
        classifier.go.set()
        made.answers.close()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize("end", ["done", "refused", "abandoned", "peer gone"])
async def test_an_answer_that_is_over_needs_no_collector(end: str) -> None:
    async with peer(Classifier()) as told:
        told.say("All is well. " * 60)
        assert gates() == 1
        match end:
            case "done":
                told.say("The end.", last=True)
                await told.done()
            case "refused":
                told.say("This is BAD. " * 60)
                await told.done()
                told.say("", last=True)
            case "abandoned":
                told.answers.take(Segment("g", "", abandoned=True))
            case _:
                told.answers.close()
        for _ in range(10):
            await asyncio.sleep(0)
        assert gates() == 0


def gates() -> int:
    return sum(isinstance(found, Gate) for found in gc.get_objects())


@pytest.fixture
def closed(tmp_path: Path) -> Policy:
    """A policy that lets nothing pass without the classifier."""
    path = tmp_path / "policy.yaml"
    path.write_text(PACKAGED_POLICY.read_text().replace("unavailable: open", "unavailable: closed"))
    return Policy.load(path, points=SamePoints())


async def test_a_full_queue_is_waited_for_where_the_policy_lets_nothing_pass(closed: Policy) -> None:
    classifier = Classifier()
    classifier.go.clear()
    async with peer(classifier, policy=closed, longest_queue=1) as told:
        told.say("the first", last=True, generation_id="first")
        await asyncio.to_thread(classifier.asked.wait, 20)
        told.say("the second", last=True, generation_id="second")
        await asyncio.sleep(0)
        told.say("the third is BAD", last=True, generation_id="third")
        await asyncio.sleep(0)
        assert [progress.done for progress in told.said] == [False, False, False]
        classifier.go.set()
        assert (await told.done(3)).action is Action.BLOCK
        assert not told.said[-1].unchecked


async def test_a_text_that_the_classifier_fails_at_is_nobody_elses_trouble() -> None:
    async with peer(Classifier()) as told:
        told.say("POISON", last=True, generation_id="first")
        told.say("This is BAD", last=True, generation_id="second")
        assert (await told.done(2)).done
        assert [(event.action, event.subject.generation_id) for event in told.recorder.events] == [
            (Action.BLOCK, "second")
        ]


async def test_an_answer_that_is_checked_again_is_the_same_event() -> None:
    """A peer whose stream was lost just before the last word came sends everything again."""
    async with peer(Classifier()) as told:
        for count, generation_id in enumerate(("g", "g", "other"), 1):
            told.say("This is BAD.", last=True, generation_id=generation_id)
            await told.done(count)
        first, again, other = (event.event_id for event in told.recorder.events)
        assert first == again
        assert other != first


def _fails(candidate: Candidate) -> Span | None:
    raise ValueError(candidate.text)


async def test_an_answer_that_cannot_be_judged_is_nobody_elses_trouble(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(cast("dict[str, object]", CHECKS), "card", _fails)
    async with peer(Classifier()) as told:
        told.say("my card is 4111 1111 1111 1111 and", generation_id="poison")
        told.say("All is well.", last=True, generation_id="fine")
        assert (await told.done()).done
        before = len(told.said)
        # What follows begins no new answer.
        told.say("All is well.", generation_id="poison")
        told.say("All is well.", last=True, generation_id="poison")
        await told.answers.settled()
        assert len(told.said) == before
        assert len(told.answers) == 0
        told.say("All is well.", last=True, generation_id="poison")
        await told.done(2)
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.__dict__["error"] == "ValueError"
    assert "4111" not in caplog.text
    assert "4111" not in repr(record.__dict__)


async def test_a_fault_in_asking_is_told_by_its_type(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with peer(Classifier()) as told:

        async def fails(text: str, *_: object, **__: object) -> None:
            raise KeyError(text)

        with monkeypatch.context() as patched:
            patched.setattr(Scoring, "score", fails)
            told.say("All is secret.", last=True, generation_id="poison")
            await told.answers.settled()
        assert len(told.answers) == 0
        assert not any(progress.done for progress in told.said)
        told.say("All is well.", last=True, generation_id="fine")
        await told.done()
    assert [record.__dict__.get("error") for record in caplog.records if record.levelname == "ERROR"] == ["KeyError"]
    assert "secret" not in caplog.text


class Offers:
    """What the guard would be shown."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def output(self, policy: Policy, *, subject: Subject, text: Callable[[], str]) -> None:
        self.texts.append(text())


class FreshEyes(Classifier):
    """Knows BAD at the end of a stretch only."""

    def classify(self, texts: Sequence[str], direction: Direction, *, quick: bool = False) -> list[Scores]:
        return super().classify([text[-320:] if len(text) < 1_000 else "" for text in texts], direction, quick=quick)


async def test_the_guard_is_shown_what_readers_see(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(
        PACKAGED_POLICY.read_text().replace("output: {action: block, threshold", "output: {action: redact, threshold")
    )
    offers = Offers()
    policy = Policy.load(path, points=SamePoints())
    async with peer(FreshEyes(), policy=policy, offers=cast("GuardOffers", offers)) as told:
        text = "All is well. " * 40 + "This is BAD. " + "All is well. " * 60
        told.say(text, last=True)
        await told.done()
        sent = [retraction for progress in told.said for retraction in progress.retractions]
        assert sent
        assert offers.texts == [apply_retractions(text, sent)]
        assert "BAD" not in offers.texts[0]
