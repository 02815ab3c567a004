"""What is heard of a turn that was joined, and how one waits for its conversation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.conversation.chat_model import Sampling
from services.conversation.generation_log import Entry, GenerationLog
from services.conversation.generation_store import generation_not_found
from services.conversation.turn import Begun, TurnRequest, TurnRunner
from services.conversation.turn_store import KnownRequest
from services.runtime.errors import DomainError, Reason
from services.runtime.identity import Identity


class Undone:
    """A watch of a turn that was undone on the server that prepared it."""

    async def events(
        self, generation_id: str, *, log: GenerationLog | None, ended: bool
    ) -> AsyncIterator[Sequence[Entry]]:
        raise generation_not_found(generation_id)
        yield []


class Ended:
    """A watch of a generation that has ended for its readers."""

    async def end(self, generation_id: str) -> None:
        assert generation_id == "generation"


class Behind:
    """A database that does not know of the end for a while."""

    def __init__(self, *, tries: int) -> None:
        self.tries = tries

    async def begin_turn(self, **_: Any) -> KnownRequest:
        self.tries -= 1
        if self.tries >= 0:
            raise DomainError(Reason.CONVERSATION_BUSY, "Busy.", metadata={"generation_id": "generation"})
        return KnownRequest("next", "", True, cast(Any, SimpleNamespace(error=None)))


def runner(*, watch: object, store: object = None) -> TurnRunner:
    nothing = cast(Any, None)
    return TurnRunner(
        store=cast(Any, store),
        ending=nothing,
        preparation=nothing,
        generator=nothing,
        writer=nothing,
        watch=cast(Any, watch),
        clock=nothing,
        drain_grace_s=0.0,
        on_completed=nothing,
    )


@pytest.mark.parametrize(
    ("log", "reason"),
    [(None, Reason.LOG_UNAVAILABLE), (GenerationLog("generation"), Reason.GENERATION_NOT_FOUND)],
)
async def test_one_that_was_refused_elsewhere_can_be_sent_again(log: GenerationLog | None, reason: Reason) -> None:
    turns = runner(watch=Undone())
    with pytest.raises(DomainError) as refused:
        async for _ in turns.events(Begun("generation", log)):
            pass
    assert refused.value.reason is reason


async def test_a_conversation_that_stays_busy_is_not_asked_without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def pause(delay_s: float) -> None:
        pauses.append(delay_s)

    monkeypatch.setattr(asyncio, "sleep", pause)
    turns = runner(watch=Ended(), store=Behind(tries=7))
    begun = await turns.begin(
        Identity("user", "pro"), TurnRequest("conversation", "Hi", "", Sampling(), "", queue=True)
    )
    assert begun == Begun("next", None)
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
