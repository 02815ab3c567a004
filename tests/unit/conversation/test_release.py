"""What an answer leaves behind when it has ended."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from services.conversation.extras import Extras
from services.conversation.generation_log import GenerationLog
from services.conversation.release import Release
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
    release = Release(log=GenerationLog("g"), moderation=moderation, answer=reader, extras=Extras("g"))
    reader.release = release
    if closed:
        release.close()
        release.on_moderation_lost(DomainError.__new__(DomainError))
    gone = weakref.ref(reader)
    del reader, release
    assert (gone() is None) is closed
