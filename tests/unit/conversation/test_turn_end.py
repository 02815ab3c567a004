"""How a turn ends when it cannot be stored in time, and when nothing is left to generate."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from services.conversation import turn_end
from services.conversation.chat_model import FinishReason, Role, TokenUsage
from services.conversation.generation_log import (
    Completed,
    Delta,
    Ended,
    Failed,
    GenerationLog,
    Notice,
    NoticeKind,
    Retracted,
    Started,
    Written,
)
from services.conversation.late_model import Revision
from services.conversation.model import Message, MessageStatus, OpenTurn, Outcome
from services.conversation.route_model import ExperimentArm, RouteReceipt
from services.conversation.turn_end import Result, TurnEnding, result_from_log
from services.conversation.turn_finish import RevisionWantedError
from services.runtime.clock import SystemClock
from services.runtime.errors import DomainError, Reason

USAGE = TokenUsage(40, 5, 8)
ROUTE = RouteReceipt("auto", "small", "synthetic", "replica-a", "only")
RESULT = Result(Outcome(MessageStatus.COMPLETED, FinishReason.STOP, "All of it.", USAGE), "small", ROUTE)
AWAY = DomainError(Reason.DEPENDENCY_UNAVAILABLE, "It is away.", metadata={"service": "database"})


class Store:
    """A database that is away for some tries, and may hold what an earlier try stored, or a late verdict."""

    def __init__(self, *, away: int = 0, stored: Message | None = None, revision: Revision | None = None) -> None:
        self.away = away
        self.stored = stored
        self.revision = revision
        self.seqs: list[int] = []

    async def finish_turn(
        self,
        turn: OpenTurn,
        outcome: Outcome,
        *,
        model: str,
        route: RouteReceipt | None,
        last_seq: int,
        revised: bool,
    ) -> Message | None:
        self.seqs.append(last_seq)
        if self.away:
            self.away -= 1
            raise AWAY
        if self.revision is not None and not revised:
            raise RevisionWantedError(self.revision)
        self.stored = self.stored or answer(outcome, model, route)
        return self.stored


class Outbox:
    def wake(self) -> None:
        pass


def answer(outcome: Outcome, model: str, route: RouteReceipt | None) -> Message:
    return Message(
        id="answer",
        conversation_id="conversation",
        parent_id="question",
        role=Role.ASSISTANT,
        content=outcome.content,
        status=outcome.status,
        sequence=2,
        created_at=datetime.now(UTC),
        model=model,
        finish_reason=outcome.finish_reason,
        usage=outcome.usage,
        route=route,
        error=outcome.error,
    )


def open_turn() -> OpenTurn:
    question = answer(Outcome(MessageStatus.COMPLETED, FinishReason.NONE, "Hello", TokenUsage()), "", None)
    return OpenTurn("generation", "user", "pro", "conversation", question, "answer", 2, "auto", "")


def begun(route: RouteReceipt | None = None) -> GenerationLog:
    log = GenerationLog("generation")
    log.append(Started("conversation", "question", "answer", "small", 100, route))
    log.append(Delta("All of ", Written(tokens=2)))
    log.append(Delta("it.", Written(tokens=3)))
    return log


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn_end, "STORE_PATIENCE_S", 0.0)


def ending(store: Store) -> TurnEnding:
    return TurnEnding(store=cast(Any, store), outbox=cast(Any, Outbox()), clock=SystemClock())


@pytest.mark.usefixtures("at_once")
async def test_what_is_stored_too_late_keeps_what_was_generated() -> None:
    store, log = Store(away=3), begun()
    with pytest.raises(DomainError) as late:
        await ending(store).complete(open_turn(), RESULT, log)
    await ending(store).fail(open_turn(), log, late.value, RESULT)
    told = log.entries[-1].event
    assert isinstance(told, Failed)
    assert told.message is None
    stored = store.stored
    assert stored is not None
    assert (stored.content, stored.usage, stored.route, stored.model) == ("All of it.", USAGE, ROUTE, "small")
    assert (stored.status, stored.error) == (MessageStatus.FAILED, told.error)
    assert set(store.seqs) == {log.entries[-1].seq}


@pytest.mark.usefixtures("at_once")
async def test_one_that_an_earlier_try_has_stored_is_complete() -> None:
    stored = answer(RESULT.outcome, "small", ROUTE)
    store, log = Store(away=1, stored=stored), begun()
    with pytest.raises(DomainError) as late:
        await ending(store).complete(open_turn(), RESULT, log)
    await ending(store).fail(open_turn(), log, late.value, RESULT)
    assert log.entries[-1].event == Completed(stored)


async def test_what_fails_in_its_middle_has_used_tokens() -> None:
    store, log = Store(away=0), begun()
    log.append(Retracted(0, 3, "[x]", "secrets", 0, 3, Written(tokens=4)))
    await ending(store).fail(open_turn(), log, DomainError(Reason.ANSWER_LOST, "It is lost."))
    stored = store.stored
    assert stored is not None
    assert (stored.content, stored.usage) == ("[x] of it.", TokenUsage(0, 9, 0))
    told = log.entries[-1].event
    assert isinstance(told, Failed)
    assert told.message == stored


@pytest.mark.parametrize(
    ("reason", "status"),
    [(FinishReason.STOP, MessageStatus.COMPLETED), (FinishReason.CANCELLED, MessageStatus.STOPPED)],
)
def test_the_log_says_how_it_ended(reason: FinishReason, status: MessageStatus) -> None:
    log = begun()
    log.append(Ended(reason, USAGE))
    assert result_from_log(log) == Result(Outcome(status, reason, "All of it.", USAGE), "small", None)


def test_one_that_has_not_ended_is_stopped_where_it_stands() -> None:
    outcome = Outcome(MessageStatus.STOPPED, FinishReason.CANCELLED, "All of it.", TokenUsage(0, 5, 0))
    assert result_from_log(begun()) == Result(outcome, "small", None)


async def test_what_fails_keeps_what_was_decided_for_it() -> None:
    """Or an arm of an experiment would look the better, the more of its answers nobody could end."""
    arms = (ExperimentArm("e", "a"),)
    store, log = Store(away=0), begun(replace(ROUTE, experiments=arms))
    await ending(store).fail(open_turn(), log, DomainError(Reason.ANSWER_LOST, "It is lost."))
    stored = store.stored
    assert stored is not None
    assert stored.route == replace(ROUTE, experiments=arms, epochs=1)


def test_the_last_model_that_was_decided_on_has_answered() -> None:
    log = begun(replace(ROUTE, pool="small-ones"))
    log.append(Notice(NoticeKind.ESCALATED, "large", 50))
    log.append(Ended(FinishReason.STOP, USAGE))
    result = result_from_log(log)
    assert result.model == "large"
    assert result.route == replace(
        ROUTE, model="large", escalated_from="small", engine="", replica_id="", pool="", epochs=1
    )


# Taken back before it was stored

REVISION = Revision("(gone)", "violence", "p2", "event", of_input=False)


@pytest.mark.parametrize("again", [False, True])
async def test_an_answer_that_is_taken_back_while_it_is_generated(again: bool) -> None:
    store, log = Store(revision=REVISION), begun()
    log.append(Ended(FinishReason.STOP, USAGE))
    if again:
        # By a server that died before it could store it.
        log.append(Retracted(0, 10, "(gone)", "violence", 0, 10))
    await ending(store).complete(open_turn(), RESULT, log)
    *_, retracted, failed = (entry.event for entry in log.entries)
    assert retracted == Retracted(0, 10, "(gone)", "violence", 0, 10)
    assert sum(isinstance(entry.event, Retracted) for entry in log.entries) == 1
    assert isinstance(failed, Failed)
    assert failed.message is store.stored
    assert failed.error.reason == Reason.CONTENT_BLOCKED
    assert failed.error.metadata == {"category": "violence", "policy_version": "p2", "event_id": "event"}
    assert store.stored is not None
    assert (store.stored.content, store.stored.status) == ("(gone)", MessageStatus.BLOCKED)
    assert store.stored.finish_reason is FinishReason.CONTENT_FILTER
    assert store.stored.usage == USAGE
    # The terminal event is where the database says.
    assert store.seqs[-1] == log.entries[-1].seq


async def test_all_of_an_answer_goes_with_what_was_replaced_in_it_before() -> None:
    store, log = Store(revision=REVISION), begun()
    log.append(Retracted(0, 6, "[name]", "pii", 0, 6))
    log.append(Delta(" More.", Written(tokens=1)))
    await ending(store).complete(open_turn(), RESULT, log)
    assert log.entries[-2].event == Retracted(0, 16, "(gone)", "violence", 0, 16)


async def test_an_answer_of_which_nothing_was_shown_needs_no_retraction() -> None:
    store, log = Store(revision=REVISION), GenerationLog("generation")
    log.append(Started("conversation", "question", "answer", "small", 100, None))
    await ending(store).complete(open_turn(), RESULT, log)
    assert [type(entry.event) for entry in log.entries] == [Started, Failed]
    assert store.stored is not None
    assert store.stored.content == ""


async def test_one_that_fails_is_taken_back_all_the_same() -> None:
    store, log = Store(revision=REVISION), begun()
    await ending(store).fail(open_turn(), log, DomainError(Reason.ENGINE_FAILED, "no"))
    failed = log.entries[-1].event
    assert isinstance(failed, Failed)
    assert failed.error.reason == Reason.CONTENT_BLOCKED
    assert isinstance(log.entries[-2].event, Retracted)
