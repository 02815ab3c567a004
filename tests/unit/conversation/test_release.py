"""What an answer shows that nobody checks, and what it leaves behind when it has ended."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from collections.abc import Iterator
from typing import Any, cast

import pytest

from services.conversation.extras import Extras
from services.conversation.generation_log import GenerationLog
from services.conversation.moderation_model import (
    AnswerContext,
    Availability,
    ModerationCheck,
    ModerationMode,
    Retraction,
    Stand,
)
from services.conversation.release import Release
from services.conversation.released_text import shown_text
from services.runtime.errors import DomainError


class Reader:
    """Told of checks, and keeps who tells, as an answer does."""

    release: Release

    def heard(self) -> None:
        """Nothing to do."""

    def cleared(self) -> None:
        """Nothing to do."""

    def blocked(self, error: DomainError) -> None:
        """Nothing to do."""

    def unchecked(self, error: DomainError) -> None:
        raise AssertionError("told after the end")


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize("closed", [True, False])
def test_an_answer_that_has_ended_needs_no_collector(closed: bool) -> None:
    moderation: Any = None
    reader = Reader()
    release = Release(
        log=GenerationLog("g"),
        moderation=moderation,
        answer=reader,
        extras=Extras("g"),
        context=AnswerContext("u", "free", "", "c", ""),
        availability=None,
    )
    reader.release = release
    if closed:
        release.close()
        release.on_moderation_lost(DomainError.__new__(DomainError))
    gone = weakref.ref(reader)
    del reader, release
    assert (gone() is None) is closed


class Told:
    """Counts what an answer is told."""

    def __init__(self) -> None:
        self.times: Counter[str] = Counter()

    def heard(self) -> None:
        self.times["heard"] += 1

    def cleared(self) -> None:
        self.times["cleared"] += 1

    def blocked(self, error: DomainError) -> None:
        self.times["blocked"] += 1

    def unchecked(self, error: DomainError) -> None:
        self.times["unchecked"] += 1


class Nobody:
    """A checker that is told and says nothing."""

    def submit(self, answer: object) -> None:
        """Nothing to do."""


def open_release(*, patience_s: float = 1.0) -> tuple[Release, Told, GenerationLog]:
    told, log = Told(), GenerationLog("g")
    release = Release(
        log=log,
        moderation=cast(Any, Nobody()),
        answer=told,
        extras=Extras("g"),
        context=AnswerContext("u", "free", "", "c", ""),
        availability=Availability(patience_s, True, True, "p1"),
    )
    return release, told, log


def say(release: Release, text: str) -> None:
    release.write(text, (), 1)
    release.send()


def stand(watermark: int, *retractions: Retraction, seen: int) -> Stand:
    return Stand(watermark, retractions, False, seen, ModerationCheck(ModerationMode.CHECKED), "p1")


def test_a_check_that_keeps_up_is_not_taken_for_one_that_is_gone() -> None:
    """Whoever looks sees the last word on its way at every look."""
    release, _, _ = open_release()
    for looks in range(40):
        say(release, "word ")
        release.on_stand(stand(5 * looks, seen=5 * looks))
        release.look_for_lag(100.0 + 0.25 * looks)
    assert mode(release) is ModerationMode.CHECKED
    assert release.shown == "word " * 39
    # The same looks, and nothing more of it has arrived.
    for looks in range(6):
        say(release, "word ")
        release.look_for_lag(110.0 + 0.25 * looks)
    assert mode(release) is ModerationMode.OPEN
    assert release.shown == "word " * 46


def mode(release: Release) -> ModerationMode:
    return release.check.mode


def test_a_refusal_takes_back_what_was_shown_unchecked_after_it() -> None:
    release, told, log = open_release()
    say(release, "one two three four")
    release.look_for_lag(100.0)
    release.look_for_lag(101.5)
    assert release.shown == "one two three four"
    release.on_stand(stand(8, Retraction(4, 8, "[stopped]", "test", True, "p1"), seen=8))
    assert release.shown == "one [stopped]" == shown_text(log.entries)
    assert told.times["blocked"] == 1


def test_an_engine_that_hangs_is_noticed_while_nobody_checks() -> None:
    """What is said about the check is no sign of life of the engine."""
    release, told, _ = open_release()
    say(release, "one ")
    for looks in range(40):
        release.look_for_lag(100.0 + 0.25 * looks)
    assert release.shown == "one "
    assert told.times["heard"] == 1
