"""Slots, the order of the line, displacement, deadlines, refusal."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.admission import MAX_RETRY_S, MIN_RETRY_S, Admission, NoPlaceError, Refusal
from services.inference.model import Priority

BACKGROUND, LOW, NORMAL, HIGH = Priority
NEVER = 0
FOREVER_S = 1e9


def line(*, slots: int = 1, queue_limit: int = 10, oldest_every: int = NEVER) -> Admission[str]:
    return Admission(slots=slots, queue_limit=queue_limit, oldest_every=oldest_every)


def enter(
    admission: Admission[str], item: str, priority: Priority = NORMAL, *, now: float = 0.0, timeout_s: float = FOREVER_S
) -> str | None:
    return admission.enter(int(item), item, priority=priority, now=now, timeout_s=timeout_s)


def refused(act: Callable[[], object]) -> NoPlaceError:
    with pytest.raises(NoPlaceError) as caught:
        act()
    return caught.value


def served(admission: Admission[str]) -> list[str]:
    """Everything, one after the other."""
    order = []
    while (item := admission.next()) is not None:
        order.append(item)
        admission.release(0.0)
    return order


def test_within_a_priority_first_come_first_served() -> None:
    admission = line(queue_limit=2)
    for item in "123":
        enter(admission, item)
    assert refused(lambda: enter(admission, "4")).refusal is Refusal.QUEUE_FULL
    assert served(admission) == ["1", "2", "3"]
    assert (admission.running, admission.queued) == (0, 0)


def test_the_urgent_first() -> None:
    admission = line()
    for item, priority in enumerate((BACKGROUND, LOW, NORMAL, HIGH, BACKGROUND, LOW, NORMAL, HIGH)):
        enter(admission, str(item), priority)
    assert [admission.queued_of(priority) for priority in Priority] == [2, 2, 2, 2]
    assert served(admission) == ["3", "7", "2", "6", "1", "5", "0", "4"]


def test_each_third_slot_is_for_who_has_waited_longest() -> None:
    admission = line(oldest_every=3)
    for item, priority in enumerate((LOW, LOW, HIGH, HIGH, HIGH, HIGH, HIGH)):
        enter(admission, str(item), priority)
    assert served(admission) == ["2", "3", "0", "4", "5", "1", "6"]


def test_who_was_passed_over_counts_from_when_somebody_was() -> None:
    admission = line(oldest_every=3)
    for item in "1234":
        enter(admission, item, NORMAL)
    assert served(admission) == ["1", "2", "3", "4"]
    for item, priority in (("5", LOW), ("6", HIGH), ("7", HIGH), ("8", HIGH)):
        enter(admission, item, priority)
    assert served(admission) == ["6", "7", "5", "8"]


def test_the_last_one_makes_way_for_one_that_stands_before_it() -> None:
    admission = line(queue_limit=2)
    for item, priority in (("1", LOW), ("2", NORMAL), ("3", LOW)):
        enter(admission, item, priority)
    assert admission.next() == "2"
    assert enter(admission, "4", HIGH, now=1.0) == "3"
    assert refused(lambda: enter(admission, "5", BACKGROUND, now=1.0)).refusal is Refusal.QUEUE_FULL
    admission.release(1.0)
    assert served(admission) == ["4", "1"]


def test_nobody_makes_way_for_its_equal() -> None:
    admission = line(queue_limit=1)
    for item in "12":
        enter(admission, item, LOW)
    admission.next()
    assert refused(lambda: enter(admission, "3", LOW)).refusal is Refusal.QUEUE_FULL
    assert refused(lambda: enter(admission, "4", BACKGROUND)).refusal is Refusal.QUEUE_FULL


def test_the_less_urgent_keep_their_share_of_a_full_queue() -> None:
    admission = line(queue_limit=8, oldest_every=4)
    enter(admission, "0")
    admission.next()
    for item in range(1, 9):
        enter(admission, str(item), LOW)
    displaced = [enter(admission, str(item), HIGH) for item in range(11, 17)]
    assert displaced == ["8", "7", "6", "5", "4", "3"]
    assert refused(lambda: enter(admission, "17", HIGH)).refusal is Refusal.QUEUE_FULL
    assert admission.queued_of(LOW) == 2


def test_a_free_slot_is_a_place() -> None:
    admission = line(slots=2, queue_limit=0)
    assert enter(admission, "1") is None
    assert enter(admission, "2") is None
    refused(lambda: enter(admission, "3"))
    assert [admission.next(), admission.next(), admission.next()] == ["1", "2", None]
    admission.release(1.0)
    assert enter(admission, "3") is None


def test_deadlines() -> None:
    admission = line()
    assert admission.next_deadline is None
    enter(admission, "1", HIGH, timeout_s=9.0)
    enter(admission, "2", LOW, timeout_s=3.0)
    enter(admission, "3", NORMAL, timeout_s=5.0)
    assert admission.next_deadline == 3.0
    assert admission.withdraw_expired(2.9) == []
    assert admission.withdraw_expired(5.0) == ["2", "3"]
    assert admission.next_deadline == 9.0
    assert admission.withdraw(1) == "1"
    assert admission.withdraw(1) is None
    assert (admission.next_deadline, admission.queued) == (None, 0)


def test_all_leave_together() -> None:
    admission = line()
    for item, priority in (("1", LOW), ("2", HIGH), ("3", NORMAL)):
        enter(admission, item, priority)
    assert admission.withdraw_all() == ["1", "2", "3"]
    assert (admission.queued, admission.next_deadline, admission.next()) == (0, None, None)
    assert not any(admission.queued_of(priority) for priority in Priority)


def test_retry_after_grows_with_the_queue_and_the_length_of_answers() -> None:
    def retry_after(durations: list[float], queue: int) -> float:
        admission = line(slots=2, queue_limit=queue)
        for duration in durations:
            enter(admission, "0")
            admission.next()
            admission.release(duration)
        for item in range(100, 102 + queue):
            enter(admission, str(item))
            admission.next()
        return refused(lambda: enter(admission, "200")).retry_after_s

    assert retry_after([], 0) == MIN_RETRY_S
    assert retry_after([4.0], 3) == pytest.approx(8.0)
    assert retry_after([4.0], 1) < retry_after([4.0], 3) < retry_after([6.0], 3)
    assert retry_after([1000.0], 3) == MAX_RETRY_S


def test_who_will_not_be_served_in_time_is_told_at_once() -> None:
    admission = line(queue_limit=100)
    for _ in range(8):
        enter(admission, "0")
        admission.next()
        admission.release(2.0)
    for item in range(1, 17):
        enter(admission, str(item), LOW)
    admission.next()
    # It waits for sixteen slots, one each two seconds; half of 32 s would be uncommon luck.
    assert enter(admission, "20", LOW, timeout_s=17.0) is None
    admission.withdraw(20)
    assert refused(lambda: enter(admission, "20", LOW, timeout_s=15.0)).refusal is Refusal.WAIT_TOO_LONG
    assert enter(admission, "21", HIGH, timeout_s=15.0) is None, "it stands first"


def test_nobody_is_turned_away_on_a_guess() -> None:
    admission = line(queue_limit=1000)
    for item in range(500):
        enter(admission, str(item), timeout_s=0.001)
    for _ in range(7):
        admission.next()
        admission.release(100.0)
    assert enter(admission, "600", timeout_s=0.001) is None
    admission.next()
    admission.release(100.0)
    assert refused(lambda: enter(admission, "601", timeout_s=0.001)).refusal is Refusal.WAIT_TOO_LONG


STEPS = st.lists(
    st.tuples(
        st.sampled_from("eeenrwx"), st.sampled_from(Priority), st.integers(0, 9), st.floats(0, 12, allow_nan=False)
    ),
    max_size=120,
)


@given(st.integers(1, 3), st.integers(0, 5), st.integers(0, 4), STEPS)
def test_none_is_lost_and_no_slot_is_given_twice(
    slots: int, limit: int, every: int, steps: list[tuple[str, Priority, int, float]]
) -> None:
    admission: Admission[int] = Admission(slots=slots, queue_limit=limit, oldest_every=every)
    now = 0.0
    running: list[int] = []
    # Item to its priority, its deadline, and the number of turns after which it must have been served.
    waiting: dict[int, tuple[Priority, float, int]] = {}
    turns = 0

    def behind(priority: Priority) -> list[int]:
        return [item for item, (other, *_) in waiting.items() if other < priority]

    for number, (step, priority, pick, elapsed) in enumerate(steps):
        now += elapsed
        if step == "e":
            timeout_s = float(5 * pick + 1)
            full = len(waiting) >= limit + slots - len(running)
            refusal: Refusal | None = None
            displaced: int | None = None
            try:
                displaced = admission.enter(number, number, priority=priority, now=now, timeout_s=timeout_s)
            except NoPlaceError as error:
                refusal = error.refusal
            if refusal is Refusal.QUEUE_FULL:
                assert full
                assert len(behind(priority)) <= (limit // every if every else 0)
            elif refusal is None:
                # The latest of the least urgent.
                last = min(behind(priority), key=lambda item: (waiting[item][0], -item), default=None)
                assert displaced == (last if full else None)
                waiting.pop(-1 if displaced is None else displaced, None)
                waiting[number] = (priority, now + timeout_s, turns + every * (len(waiting) + 1))
        elif step == "n":
            item = admission.next()
            assert (item is not None) == (len(running) < slots and bool(waiting))
            if item is not None:
                turns += 1
                kind = waiting.pop(item)[0]
                if every:
                    assert all(turns < last_turn for *_, last_turn in waiting.values()), "somebody starves"
                if every != 1 and kind < max((other for other, *_ in waiting.values()), default=kind):
                    assert every, "without aging the urgent are first"
                    assert item == min([item, *waiting]), "only who has waited longest is served before the urgent"
                running.append(item)
        elif step == "r" and running:
            running.pop()
            admission.release(elapsed)
        elif step == "w" and waiting:
            item = list(waiting)[pick % len(waiting)]
            assert admission.withdraw(item) == item
            del waiting[item]
        elif step == "x":
            expired = admission.withdraw_expired(now)
            assert sorted(expired) == sorted(item for item, (_, deadline, _) in waiting.items() if deadline <= now)
            for item in expired:
                del waiting[item]
        assert (admission.running, admission.queued) == (len(running), len(waiting))
        assert admission.running <= slots
        assert admission.next_deadline == min((deadline for _, deadline, _ in waiting.values()), default=None)
        for kind in Priority:
            assert admission.queued_of(kind) == sum(1 for of, *_ in waiting.values() if of is kind)


@pytest.mark.parametrize(("every", "place"), [(8, 7), (3, 2), (NEVER, None)])
def test_the_low_progress_under_a_steady_stream_of_the_high(every: int, place: int | None) -> None:
    admission = line(queue_limit=1000, oldest_every=every)
    enter(admission, "1", LOW)
    served = []
    for number in range(500):
        enter(admission, str(100 + number), HIGH)
        enter(admission, str(1000 + number), HIGH)
        served.append(admission.next())
        admission.release(1.0)
    assert (served.index("1") if "1" in served else None) == place
