"""The queue on a real database."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.moderation.late.verdict import LateAction
from services.moderation.model import Action, Direction, Event
from services.moderation.review.model import Decision, EventState, ReviewedEvent, Selection
from services.moderation.review.rows import MAX_FINDINGS
from services.moderation.review.store import EXPORTED_AT_ONCE, FIRST_ID, EventStore
from services.runtime.clock import new_id
from services.runtime.database import Database
from services.runtime.errors import DomainError, Reason
from tests.store.moderation.events import NOON, HandClock, event, finding

LEASE = timedelta(minutes=15)
EVER = (datetime.min.replace(tzinfo=UTC), FIRST_ID)
NEVER = NOON + timedelta(days=1000)


async def listed(store: EventStore, limit: int = 50, **selection: object) -> Sequence[ReviewedEvent]:
    return await store.list(Selection(**selection), reviewer="rita", limit=limit, before=None)  # type: ignore[arg-type]


async def decide(store: EventStore, event_id: str, decision: Decision, *, category: str = "") -> ReviewedEvent:
    await store.claim(event_id, reviewer="rita", lease=LEASE)
    return await store.decide(event_id, reviewer="rita", decision=decision, comment="so", category=category)


def ids(events: Sequence[ReviewedEvent]) -> list[str]:
    return [reviewed.event.event_id for reviewed in events]


async def audited(store: EventStore, event_id: str) -> list[tuple[str, str]]:
    return [(entry.actor, entry.what) for entry in await store.audit(event_id)]


async def refused(work: object, reason: Reason) -> DomainError:
    with pytest.raises(DomainError) as caught:
        await work  # type: ignore[misc]
    assert caught.value.reason is reason
    return caught.value


async def test_an_event_comes_back_as_it_was(store: EventStore) -> None:
    held = event()
    await store.record([held])
    reviewed = await store.get(held.event_id, reviewer="rita")
    assert reviewed.event == held
    assert (reviewed.state, reviewed.text_kept) == (EventState.PENDING, True)
    assert (reviewed.decision, reviewed.claimed_by, reviewed.appeal, reviewed.decided_at) == (None, "", "", None)


async def test_an_event_is_stored_once_however_often_it_comes(store: EventStore) -> None:
    held, other = event(), event()
    await store.record([held])
    await asyncio.gather(*(store.record([replace(held, category="hate"), other]) for _ in range(5)))
    assert {reviewed.event.category for reviewed in await listed(store)} == {"violence"}
    assert len(await listed(store)) == 2
    await store.record([])


async def test_texts_that_no_database_can_hold_keep_their_offsets(store: EventStore) -> None:
    odd = event(text="a\0b\ud800c")
    await store.record([odd])
    assert (await store.get(odd.event_id, reviewer="rita")).event.text == "a\ufffdb?c"


async def test_of_very_many_findings_the_strictest_stay(store: EventStore) -> None:
    many = tuple(finding("pii", Action.REDACT, start=n, end=n + 1) for n in range(MAX_FINDINGS + 50))
    worst = finding("violence", Action.HOLD, start=len(many))
    full = replace(event(), findings=(*many, worst))
    await store.record([full])
    stored = (await store.get(full.event_id, reviewer="rita")).event.findings
    assert len(stored) == MAX_FINDINGS
    assert stored[-1].outcome.category == "violence"
    assert [found.start for found in stored] == sorted(found.start for found in stored)


async def test_lists_are_newest_first_and_without_texts(store: EventStore) -> None:
    events = [event(after_s=n) for n in range(5)]
    await store.record(events)
    first = await listed(store, limit=2)
    assert ids(first) == [events[4].event_id, events[3].event_id]
    assert [(reviewed.event.text, reviewed.text_kept) for reviewed in first] == [(None, True)] * 2
    last = first[-1].event
    rest = await store.list(Selection(), reviewer="rita", limit=9, before=(last.created_at, last.event_id))
    assert ids(rest) == [old.event_id for old in reversed(events[:3])]


async def test_events_of_one_moment_are_neither_repeated_nor_skipped(store: EventStore) -> None:
    events = [event() for _ in range(7)]
    await store.record(events)
    seen: list[str] = []
    before = None
    while page := await store.list(Selection(), reviewer="rita", limit=2, before=before):
        seen += ids(page)
        before = (page[-1].event.created_at, page[-1].event.event_id)
    assert seen == sorted((each.event_id for each in events), reverse=True)


async def test_lists_can_be_narrowed(store: EventStore, clock: HandClock) -> None:
    closed = event(pending=False, category="hate", user="bob", generation="g2")
    claimed, decided, expired = event(after_s=1), event(after_s=2), event(after_s=3)
    await store.record([closed, claimed, decided, expired])
    await store.claim(expired.event_id, reviewer="rita", lease=timedelta(seconds=5))
    clock.advance(seconds=10)
    await store.claim(claimed.event_id, reviewer="rita", lease=LEASE)
    await decide(store, decided.event_id, Decision.UPHOLD)
    for state, expected in (
        (EventState.CLOSED, closed),
        (EventState.CLAIMED, claimed),
        (EventState.DECIDED, decided),
        (EventState.PENDING, expired),
    ):
        (found,) = await listed(store, state=state)
        assert (found.event.event_id, found.state) == (expected.event_id, state)
    assert ids(await listed(store, category="hate")) == [closed.event_id]
    assert ids(await listed(store, user_id="bob")) == [closed.event_id]
    assert ids(await listed(store, generation_id="g2")) == [closed.event_id]
    await store.appeal(closed.event_id, user_id="bob", appeal="no")
    assert ids(await listed(store, appealed=True)) == [closed.event_id]
    assert ids(await listed(store, user_id="bob", category="violence")) == []


async def test_the_next_is_the_one_that_waits_longest_appeals_first(store: EventStore, clock: HandClock) -> None:
    old, young, shut = event(after_s=-20), event(after_s=-10), event(after_s=-30, pending=False)
    await store.record([young, old, shut])
    await store.appeal(shut.event_id, user_id="ann", appeal="it was a joke")
    taken = [(await store.claim("", reviewer="rita", lease=LEASE)).event.event_id for _ in range(3)]
    assert taken == [shut.event_id, old.event_id, young.event_id]
    error = await refused(store.claim("", reviewer="rita", lease=LEASE), Reason.EVENT_NOT_FOUND)
    assert "No event waits" in error.message


async def test_reviewers_who_ask_at_once_get_different_events(store: EventStore) -> None:
    events = [event(after_s=n) for n in range(20)]
    await store.record(events)
    claims = await asyncio.gather(*(store.claim("", reviewer=f"r{n}", lease=LEASE) for n in range(20)))
    assert sorted(ids(claims)) == sorted(each.event_id for each in events)
    assert {claim.claimed_by for claim in claims} == {f"r{n}" for n in range(20)}
    assert all(claim.event.text and claim.state is EventState.CLAIMED for claim in claims)


async def test_of_those_who_want_one_event_at_once_one_gets_it(store: EventStore) -> None:
    held = event()
    await store.record([held])
    outcomes = await asyncio.gather(
        *(store.claim(held.event_id, reviewer=f"r{n}", lease=LEASE) for n in range(8)), return_exceptions=True
    )
    (winner,) = [outcome for outcome in outcomes if isinstance(outcome, ReviewedEvent)]
    losers = [outcome for outcome in outcomes if isinstance(outcome, DomainError)]
    assert len(losers) == 7
    for loser in losers:
        assert loser.reason is Reason.WRONG_EVENT_STATE
        assert loser.metadata == {
            "event_id": held.event_id,
            "state": "claimed",
            "claimed_by": winner.claimed_by,
        }


async def test_a_claim_ends_by_itself_and_is_renewed_by_its_holder(store: EventStore, clock: HandClock) -> None:
    held = event()
    await store.record([held])
    await store.claim(held.event_id, reviewer="rita", lease=LEASE)
    clock.advance(minutes=10)
    renewed = await store.claim(held.event_id, reviewer="rita", lease=LEASE)
    assert renewed.claim_expires_at == clock.now() + LEASE
    await refused(store.claim("", reviewer="sam", lease=LEASE), Reason.EVENT_NOT_FOUND)
    clock.advance(minutes=15)
    assert (await store.get(held.event_id, reviewer="rita")).state is EventState.PENDING
    late = store.decide(held.event_id, reviewer="rita", decision=Decision.UPHOLD, comment="", category="")
    error = await refused(late, Reason.WRONG_EVENT_STATE)
    assert error.metadata == {"event_id": held.event_id, "state": "pending"}
    assert (await store.claim("", reviewer="sam", lease=LEASE)).claimed_by == "sam"


async def test_only_the_holder_releases_and_decides(store: EventStore) -> None:
    held = event()
    await store.record([held])
    await store.claim(held.event_id, reviewer="rita", lease=LEASE)
    for work in (
        store.release(held.event_id, reviewer="sam"),
        store.decide(held.event_id, reviewer="sam", decision=Decision.UPHOLD, comment="", category=""),
    ):
        error = await refused(work, Reason.WRONG_EVENT_STATE)
        assert error.metadata["claimed_by"] == "rita"
    released = await store.release(held.event_id, reviewer="rita")
    assert (released.state, released.claimed_by) == (EventState.PENDING, "")
    decided = await decide(store, held.event_id, Decision.OVERTURN)
    assert (decided.state, decided.decision, decided.decided_by, decided.comment, decided.claimed_by) == (
        EventState.DECIDED,
        Decision.OVERTURN,
        "rita",
        "so",
        "",
    )
    again = await store.decide(held.event_id, reviewer="rita", decision=Decision.OVERTURN, comment="so", category="")
    assert again.decided_at == decided.decided_at
    for work in (
        store.decide(held.event_id, reviewer="rita", decision=Decision.UPHOLD, comment="so", category=""),
        store.claim(held.event_id, reviewer="rita", lease=LEASE),
        store.release(held.event_id, reviewer="rita"),
    ):
        assert (await refused(work, Reason.WRONG_EVENT_STATE)).metadata["state"] == "decided"


async def test_a_closed_event_is_opened_by_whoever_claims_it(store: EventStore) -> None:
    shut = event(pending=False, action=Action.BLOCK)
    await store.record([shut])
    error = await refused(store.release(shut.event_id, reviewer="rita"), Reason.WRONG_EVENT_STATE)
    assert error.metadata["state"] == "closed"
    decided = await decide(store, shut.event_id, Decision.OVERTURN)
    assert decided.state is EventState.DECIDED
    assert [verdict.event_id for verdict in await store.unpublished()] == [shut.event_id]


async def test_an_appeal_is_made_once_and_by_nobody_else(store: EventStore) -> None:
    shut = event(pending=False)
    await store.record([shut])
    await refused(store.appeal(shut.event_id, user_id="bob", appeal="mine"), Reason.EVENT_NOT_FOUND)
    appealed = await store.appeal(shut.event_id, user_id="ann", appeal="it was a joke")
    assert (appealed.state, appealed.appeal, appealed.appealed_at) == (EventState.PENDING, "it was a joke", NOON)
    assert appealed.event.text is None, "who appeals has not seen all of it"
    error = await refused(store.appeal(shut.event_id, user_id="ann", appeal="again"), Reason.WRONG_EVENT_STATE)
    assert error.metadata["state"] == "pending"
    await decide(store, shut.event_id, Decision.UPHOLD)
    error = await refused(store.appeal(shut.event_id, user_id="ann", appeal="again"), Reason.WRONG_EVENT_STATE)
    assert error.metadata["state"] == "decided"


async def test_an_appeal_keeps_the_claim_that_there_is(store: EventStore) -> None:
    held = event()
    await store.record([held])
    await store.claim(held.event_id, reviewer="rita", lease=LEASE)
    appealed = await store.appeal(held.event_id, user_id="ann", appeal="no")
    assert (appealed.state, appealed.claimed_by) == (EventState.CLAIMED, "rita")


async def test_what_was_upheld_is_decided_anew_after_an_appeal(store: EventStore) -> None:
    upheld, overturned = event(), event()
    await store.record([upheld, overturned])
    await decide(store, upheld.event_id, Decision.UPHOLD)
    await decide(store, overturned.event_id, Decision.OVERTURN)
    reopened = await store.appeal(upheld.event_id, user_id="ann", appeal="look again")
    assert (reopened.state, reopened.decision, reopened.decided_by) == (EventState.PENDING, None, "")
    error = await refused(
        store.appeal(overturned.event_id, user_id="ann", appeal="look again"), Reason.WRONG_EVENT_STATE
    )
    assert error.metadata["state"] == "decided"


async def test_everything_that_is_done_is_written_down(store: EventStore, database: Database, clock: HandClock) -> None:
    held = event()
    await store.record([held])
    steps = [
        lambda: store.get(held.event_id, reviewer="rita"),
        lambda: store.claim("", reviewer="sam", lease=LEASE),
        lambda: store.release(held.event_id, reviewer="sam"),
        lambda: store.appeal(held.event_id, user_id="ann", appeal="no"),
        lambda: store.claim(held.event_id, reviewer="rita", lease=LEASE),
        lambda: store.decide(held.event_id, reviewer="rita", decision=Decision.UPHOLD, comment="", category=""),
        lambda: store.export(reviewer="tom", after=EVER, until=NEVER),
    ]
    for step in steps:
        clock.advance(seconds=1)
        await step()  # type: ignore[no-untyped-call]
    # What was refused was not done.
    await refused(store.claim(held.event_id, reviewer="eve", lease=LEASE), Reason.WRONG_EVENT_STATE)
    assert await audited(store, held.event_id) == [
        ("rita", "view"),
        ("sam", "claim"),
        ("sam", "release"),
        ("ann", "appeal"),
        ("rita", "claim"),
        ("rita", "decide"),
        ("tom", "export"),
    ]
    await listed(store, user_id="ann", category="hate")
    ((actor, detail),) = await database.statement("SELECT actor, detail FROM moderation.audit WHERE what = 'list'")
    assert actor == "rita"
    assert "category=hate" in detail
    assert "ann" not in detail


async def test_unknown_events(store: EventStore) -> None:
    unknown = new_id()
    for work in (
        store.get(unknown, reviewer="rita"),
        store.claim(unknown, reviewer="rita", lease=LEASE),
        store.release(unknown, reviewer="rita"),
        store.decide(unknown, reviewer="rita", decision=Decision.UPHOLD, comment="", category=""),
        store.appeal(unknown, user_id="ann", appeal="no"),
        store.audit(unknown),
    ):
        assert (await refused(work, Reason.EVENT_NOT_FOUND)).metadata == {"event_id": unknown}


async def exported(store: EventStore, *, since: datetime = EVER[0]) -> list[tuple[str, str, str]]:
    found = []
    after = (since, FIRST_ID)
    while texts := await store.export(reviewer="rita", after=after, until=NEVER):
        found += [(text.event_id, text.category, text.decision.value) for text in texts]
        after = (texts[-1].decided_at, texts[-1].event_id)
    return found


async def test_decisions_are_exported_in_their_order_while_their_texts_are_kept(
    store: EventStore, clock: HandClock
) -> None:
    events = [event(after_s=n) for n in range(EXPORTED_AT_ONCE + 5)]
    brief, unkept, waiting = event(kept_s=1), event(text=None), event()
    await store.record([*events, brief, unkept, waiting])
    expected = []
    for number, each in enumerate(reversed(events)):
        if number % 7 == 0:
            clock.advance(seconds=1)
        relabelled = number % 2 == 0
        await decide(
            store,
            each.event_id,
            Decision.UPHOLD if relabelled else Decision.OVERTURN,
            category="hate" if relabelled else "",
        )
        expected.append((each.event_id, "hate" if relabelled else "violence", "uphold" if relabelled else "overturn"))
    for each in (brief, unkept):
        await decide(store, each.event_id, Decision.UPHOLD)
    rows = await exported(store)
    assert sorted(rows) == sorted(expected)
    order = [number for row in rows for number, each in enumerate(expected) if each == row]
    assert [number // 7 for number in order] == sorted(number // 7 for number in order), "oldest decision first"
    assert len(await exported(store, since=clock.now())) == len(expected) % 7


async def test_a_text_goes_when_its_time_is_over(store: EventStore, database: Database, clock: HandClock) -> None:
    brief, long = event(kept_s=60), event(kept_s=600)
    await store.record([brief, long])
    clock.advance(seconds=60)
    for reviewed in await listed(store):
        assert reviewed.text_kept == (reviewed.event.event_id == long.event_id), "nobody sees it, tidied up or not"
    assert (await store.get(brief.event_id, reviewer="rita")).event.text is None
    assert await store.forget_texts() == 1
    assert await store.forget_texts() == 0
    rows = await database.statement("SELECT id::TEXT FROM moderation.events WHERE text IS NOT NULL")
    assert rows == [(long.event_id,)]
    assert (await store.get(brief.event_id, reviewer="rita")).event.text_sha256 == brief.text_sha256


async def test_old_events_go_with_all_that_is_known_of_them(
    store: EventStore, database: Database, clock: HandClock
) -> None:
    old = event()
    await store.record([old])
    await store.get(old.event_id, reviewer="rita")
    await listed(store)
    clock.advance(days=10)
    young = event(at=clock.now())
    await store.record([young])
    assert await store.delete_older(timedelta(days=10, seconds=1)) == 0
    assert await store.delete_older(timedelta(days=9)) == 1
    assert await database.statement("SELECT * FROM moderation.audit") == []
    assert ids(await listed(store)) == [young.event_id]


async def test_a_user_is_forgotten(store: EventStore, database: Database) -> None:
    await store.record([event(), event(), event(user="bob")])
    held = (await listed(store, user_id="ann"))[0].event
    await store.appeal(held.event_id, user_id="ann", appeal="no")
    assert await store.delete_user("ann") == 2
    assert [reviewed.event.subject.user_id for reviewed in await listed(store)] == ["bob"]
    everything = await database.statement("SELECT actor, what, detail FROM moderation.audit")
    assert "ann" not in str(everything)


@pytest.mark.parametrize(
    ("given", "decision", "told"),
    [
        (event(action=Action.HOLD), Decision.OVERTURN, True),
        (event(action=Action.BLOCK, direction=Direction.OUTPUT), Decision.OVERTURN, True),
        (event(action=Action.BLOCK, late=True), Decision.OVERTURN, True),
        (event(action=Action.BLOCK), Decision.UPHOLD, False),
        (event(action=Action.WARN), Decision.OVERTURN, False),
        (event(action=Action.REDACT), Decision.OVERTURN, False),
        (event(action=Action.HOLD, text=None), Decision.OVERTURN, False),
        (event(action=Action.HOLD, kept_s=1), Decision.OVERTURN, False),
    ],
)
async def test_what_is_given_back(
    store: EventStore, clock: HandClock, given: Event, decision: Decision, told: bool
) -> None:
    await store.record([given])
    clock.advance(seconds=2)
    await decide(store, given.event_id, decision)
    verdicts = await store.unpublished()
    assert [(verdict.event_id, verdict.text, verdict.direction) for verdict in verdicts] == (
        [(given.event_id, given.text, given.direction)] if told else []
    )


@pytest.mark.parametrize("kept", [True, False])
async def test_what_was_held_and_is_not_given_back_is_refused(store: EventStore, kept: bool) -> None:
    held = event(text="held" if kept else None, direction=Direction.OUTPUT)
    await store.record([held])
    await decide(store, held.event_id, Decision.UPHOLD)
    (verdict,) = await store.unpublished()
    assert (verdict.event_id, verdict.action, verdict.text) == (held.event_id, LateAction.RETRACT, "")
    assert verdict.replacement
    await store.published(held.event_id)
    assert await store.unpublished() == []


async def test_a_text_that_is_to_be_given_back_waits_for_that(store: EventStore, clock: HandClock) -> None:
    held = event(kept_s=60)
    await store.record([held])
    await decide(store, held.event_id, Decision.OVERTURN)
    clock.advance(seconds=61)
    assert await store.forget_texts() == 0
    assert [verdict.text for verdict in await store.unpublished()] == [held.text]
    await store.published(held.event_id)
    assert await store.unpublished() == []
    assert await store.forget_texts() == 1


async def test_how_long_the_queue_is(store: EventStore, clock: HandClock) -> None:
    assert await store.queue() == (0, 0.0)
    await store.record([event(), event(after_s=30), event(pending=False)])
    clock.advance(seconds=90)
    assert await store.queue() == (2, 90.0)
