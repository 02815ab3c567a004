"""Slots, queue, refusal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.admission import MAX_RETRY_S, MIN_RETRY_S, Admission, QueueFullError


def test_first_come_first_served() -> None:
    admission: Admission[str] = Admission(slots=1, queue_limit=2)
    assert admission.offer(1, "a")
    assert not admission.offer(2, "b")
    assert not admission.offer(3, "c")
    with pytest.raises(QueueFullError):
        admission.offer(4, "d")
    assert admission.release(1.0) == "b"
    assert (admission.running, admission.queued) == (1, 1)
    assert admission.withdraw(3) == "c"
    assert admission.withdraw(3) is None
    assert admission.release(1.0) is None
    assert (admission.running, admission.queued) == (0, 0)


def test_retry_after_grows_with_the_queue_and_the_length_of_answers() -> None:
    def retry_after(durations: list[float], queue: int) -> float:
        admission: Admission[str] = Admission(slots=2, queue_limit=queue)
        for key, duration in enumerate(durations):
            admission.offer(key, "")
            admission.release(duration)
        for key in range(100, 102 + queue):
            admission.offer(key, "")
        with pytest.raises(QueueFullError) as caught:
            admission.offer(200, "")
        return caught.value.retry_after_s

    assert retry_after([], 0) == MIN_RETRY_S
    assert retry_after([4.0], 3) == pytest.approx(8.0)
    assert retry_after([4.0], 1) < retry_after([4.0], 3) < retry_after([6.0], 3)
    assert retry_after([1000.0], 3) == MAX_RETRY_S


@given(
    st.integers(1, 3), st.integers(0, 3), st.lists(st.tuples(st.sampled_from("owr"), st.integers(0, 9)), max_size=60)
)
def test_no_slot_is_lost_or_given_twice(slots: int, limit: int, steps: list[tuple[str, int]]) -> None:
    admission: Admission[int] = Admission(slots=slots, queue_limit=limit)
    running: list[int] = []
    waiting: list[int] = []
    for number, (step, pick) in enumerate(steps):
        if step == "o":
            try:
                (running if admission.offer(number, number) else waiting).append(number)
            except QueueFullError:
                assert len(running) == slots
                assert len(waiting) == limit
        elif step == "w" and waiting:
            key = waiting[pick % len(waiting)]
            assert admission.withdraw(key) == key
            waiting.remove(key)
        elif step == "r" and running:
            running.pop()
            following = admission.release(1.0)
            assert following == (waiting[0] if waiting else None)
            if following is not None:
                waiting.remove(following)
                running.append(following)
        assert (admission.running, admission.queued) == (len(running), len(waiting))
        assert not waiting or len(running) == slots, "a free slot while somebody waits"
