"""The slots of one model: who gets one, when, and what those are told who do not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from services.inference.admission import Admission, NoPlaceError, Refusal
from services.inference.averages import MovingAverage
from services.inference.model import Priority, WaitingClass
from services.runtime.clock import Clock
from services.runtime.errors import DomainError, Reason

_TEXTS = {
    Refusal.QUEUE_FULL: "{model} is busy and its queue is full; try again shortly.",
    Refusal.DISPLACED: "{model} is busy and its queue is full of what is more urgent; try again shortly.",
    Refusal.WAIT_TOO_LONG: "{model} is busy and will not come to it in time; try again shortly.",
}


class Job(Protocol):
    """Something that needs a slot for a while. Unless it is withdrawn, either `begin` or `refuse` is called, once."""

    @property
    def key(self) -> int:
        """A number that no other job has."""
        ...

    @property
    def priority(self) -> Priority:
        """How urgent it is."""
        ...

    @property
    def submitted_at(self) -> float:
        """When it came, monotonic."""
        ...

    def begin(self, now: float) -> None:
        """It has a slot from now until `Slots.release`. Must not raise: nobody would give the slot back."""
        ...

    def refuse(self, error: DomainError) -> None:
        """It will get none."""
        ...


class Slots:
    """Gives slots to jobs in the order that `Admission` says. One timer watches over all that wait."""

    def __init__(
        self,
        *,
        model: str,
        slots: int,
        queue_limit: int,
        queue_timeout_s: float,
        oldest_every: int,
        clock: Clock,
        on_refused: Callable[[Refusal, Priority], None],
    ) -> None:
        self._model = model
        self._timeout_s = queue_timeout_s
        self._clock = clock
        self._on_refused = on_refused
        self._admission: Admission[Job] = Admission(slots=slots, queue_limit=queue_limit, oldest_every=oldest_every)
        self._waits_ms = {priority: MovingAverage() for priority in Priority}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._serving = False

    @property
    def running(self) -> int:
        """Jobs that have a slot."""
        return self._admission.running

    @property
    def queued(self) -> int:
        """Jobs that wait for one."""
        return self._admission.queued

    def waiting(self) -> tuple[WaitingClass, ...]:
        """Those that wait, by priority, the most urgent first; without the priorities that nobody has asked for yet."""
        classes = (
            WaitingClass(priority, self._admission.queued_of(priority), self._waits_ms[priority].value)
            for priority in reversed(Priority)
        )
        return tuple(waiting for waiting in classes if waiting.queued or self._waits_ms[waiting.priority].known)

    def enter(self, job: Job, *, timeout_s: float | None) -> None:
        """Give a job a place; `serve` begins it when a slot is free. None as `timeout_s` takes the usual bound.

        Raises:
            DomainError: OVERLOADED.
        """
        now = self._clock.monotonic()
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        try:
            displaced = self._admission.enter(job.key, job, priority=job.priority, now=now, timeout_s=timeout_s)
        except NoPlaceError as error:
            self._on_refused(error.refusal, job.priority)
            raise self._overloaded(error.refusal, error.retry_after_s) from error
        if displaced is not None:
            self._refuse(displaced, Refusal.DISPLACED)

    def withdraw(self, key: int) -> bool:
        """Take a job out of the queue; False when it does not wait. Nothing more is called on it."""
        return self._admission.withdraw(key) is not None

    def release(self, duration_s: float) -> None:
        """Give back the slot of a job that had it for `duration_s` seconds; the first in the queue gets it."""
        self._admission.release(duration_s)
        self.serve()

    def refuse_waiting(self, error: DomainError) -> None:
        """Let nobody wait any longer."""
        for job in self._admission.withdraw_all():
            job.refuse(error)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def serve(self) -> None:
        """Begin whoever can begin."""
        # A job may end while it begins and so give its slot back here: a loop, because each would nest in the one
        # before it, and a queue may be longer than the stack is deep.
        if self._serving:
            return
        self._serving = True
        try:
            while (job := self._admission.next()) is not None:
                now = self._clock.monotonic()
                self._waits_ms[job.priority].add((now - job.submitted_at) * 1000)
                job.begin(now)
        finally:
            self._serving = False
        self._watch_deadlines()

    def _watch_deadlines(self) -> None:
        """Have the timer ring at the earliest deadline. It may ring too early, for one that waits no longer."""
        deadline = self._admission.next_deadline
        if deadline is None or (self._timer is not None and self._timer_at <= deadline):
            return
        self.close()
        self._timer_at = deadline
        self._timer = asyncio.get_running_loop().call_later(
            max(0.0, deadline - self._clock.monotonic()), self._on_timer
        )

    def _on_timer(self) -> None:
        self._timer = None
        for job in self._admission.withdraw_expired(self._clock.monotonic()):
            self._refuse(job, Refusal.WAIT_TOO_LONG)
        self._watch_deadlines()

    def _refuse(self, job: Job, refusal: Refusal) -> None:
        self._on_refused(refusal, job.priority)
        job.refuse(self._overloaded(refusal, self._admission.retry_after_s()))

    def _overloaded(self, refusal: Refusal, retry_after_s: float) -> DomainError:
        return DomainError(
            Reason.OVERLOADED,
            _TEXTS[refusal].format(model=self._model),
            metadata={"model": self._model},
            retry_after_s=retry_after_s,
        )
