"""Has the guard look at what was let through, and takes back what should not have been.

All processes of Moderation share the work as one consumer group. A job is deleted when it is done, and done only when
what came of it is published: it may be judged twice, and is never lost to a process that dies.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from redis.asyncio import Redis

from services.moderation.events import Events
from services.moderation.guard.convert import job_from_bytes
from services.moderation.guard.guard import Guard, findings
from services.moderation.guard.metrics import GuardMetrics
from services.moderation.guard.model import Drop, GuardJob, Mode, Opinion, Silence
from services.moderation.guard.offers import FIELD, MAX_AGE, STREAM
from services.moderation.late.publisher import LatePublisher
from services.moderation.late.verdict import LateAction, LateVerdict
from services.moderation.metrics import ModerationMetrics
from services.moderation.model import Action, Direction
from services.moderation.policy import GuardPolicy, Policy
from services.runtime.clock import Clock, new_id
from services.runtime.errors import DomainError
from services.runtime.stream_group import Entry, Pace, StreamGroup

_log = logging.getLogger(__name__)

GROUP = "moderation"
CONCURRENCY = 8
"""Texts that one process has looked at at a time."""
MAX_TRIES = 3
FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 15.0
# While the guard is away texts wait where they are, so that tries count what failed and deaths, and nothing else.
PACE = Pace(count=CONCURRENCY, hold_s=MAX_AGE.total_seconds(), max_tries=MAX_TRIES, max_deliveries=2 * MAX_TRIES)


class GuardWorker:
    """Works on jobs. Run `run` as a task.

    Args:
        redis: Where the jobs are.
        policy: Gives the policy in force, which decides: it may be another one than when the text was let through.
        guard: The guard.
        events: Where what is found is written down.
        publisher: Tells whoever shows the text.
        clock: The time.
        findings: Told of what is found.
        metrics: Told of what becomes of the jobs.
        pace: How the stream is read.
    """

    def __init__(
        self,
        *,
        redis: Redis,
        policy: Callable[[], Policy],
        guard: Guard,
        events: Events,
        publisher: LatePublisher,
        clock: Clock,
        findings: ModerationMetrics,
        metrics: GuardMetrics,
        pace: Pace = PACE,
    ) -> None:
        self._group = StreamGroup(redis=redis, stream=STREAM, group=GROUP, name=new_id(), pace=pace)
        self._policy = policy
        self._guard = guard
        self._events = events
        self._publisher = publisher
        self._clock = clock
        self._findings = findings
        self._metrics = metrics

    async def run(self) -> None:
        """Work for ever."""
        await self._group.run(self._take)

    async def _take(self, entries: Sequence[Entry]) -> None:
        ends = await asyncio.gather(*(self._work(entry) for entry in entries), return_exceptions=True)
        for end in ends:
            if end is not None:
                raise end

    async def _work(self, entry: Entry) -> None:
        try:
            job = job_from_bytes(entry.fields.get(FIELD.encode(), b""))
        except ValueError:
            # It may be of a newer process, which reads it then.
            await self._failed(entry, Drop.UNREADABLE)
            return
        try:
            end = await self._judge(entry, job)
        except Exception:  # noqa: BLE001 - one that cannot be judged must not stop the others
            _log.exception("a text cannot be judged", extra={"entry": entry.id})
            end = Drop.TRIED
        if end is Drop.TRIED:
            await self._failed(entry, end)
            return
        await self._group.acknowledge(entry)
        if end is not None:
            self._metrics.dropped(end)

    async def _failed(self, entry: Entry, why: Drop) -> None:
        if await self._group.failed(entry):
            _log.warning("a text is not looked at by the guard", extra={"entry": entry.id, "reason": why.value})
            self._metrics.dropped(why)

    async def _judge(self, entry: Entry, job: GuardJob) -> Drop | None:
        """Do what the guard's word means; returns why there is none."""
        wait_s = FIRST_RETRY_S
        while self._age(entry) < MAX_AGE:
            policy = self._policy()
            if policy.guard is None:
                return Drop.NO_GUARD
            heard = await self._guard.ask(
                policy.guard,
                mode=Mode.BACKGROUND,
                direction=job.direction,
                text=job.text,
                question=job.question,
                residency=job.subject.residency,
            )
            if isinstance(heard, Opinion):
                await self._act(policy, policy.guard, job, heard)
                return None
            if heard is not Silence.AWAY:
                # To the same question it would say the same again; what failed or was late may go better.
                return Drop.UNREADABLE if heard is Silence.UNREADABLE else Drop.TRIED
            await asyncio.sleep(wait_s * (0.5 + random.random()))
            wait_s = min(wait_s * 2, LONGEST_RETRY_S)
        return Drop.EXPIRED

    def _age(self, entry: Entry) -> timedelta:
        return self._clock.now() - datetime.fromtimestamp(entry.time_ms / 1000, UTC)

    async def _act(self, policy: Policy, guard: GuardPolicy, job: GuardJob, opinion: Opinion) -> None:
        subject, direction = job.subject, job.direction
        user = policy.for_user(tenant_id=subject.tenant_id, tier=subject.tier)
        way = user.input if direction is Direction.INPUT else user.output
        found = findings(opinion, guard, way.categories, direction=direction, length=len(job.text))
        if not found:
            return
        for finding in found:
            self._findings.found(direction, finding.outcome)
        worst = max(found, key=lambda finding: finding.outcome.action).outcome
        event_id = self._events.record(
            policy,
            subject=subject,
            direction=direction,
            action=worst.action,
            findings=found,
            text=job.text,
            late=True,
        )
        # To redact an answer is to replace the whole of it: the guard does not say where.
        if worst.action < Action.REDACT or not subject.user_id:
            return
        shown = user.output.categories.get(worst.category)
        await self._publish(
            LateVerdict(
                generation_id=subject.generation_id,
                user_id=subject.user_id,
                action=LateAction.RETRACT,
                direction=direction,
                category=worst.category,
                # Nobody may have written it down, and whoever reads the verdict twice must know it again.
                event_id=event_id or new_id(),
                policy_version=policy.version,
                # Also of a question that is taken back it is the answer that something stands in the place of.
                replacement=shown.replacement if shown is not None else "",
            )
        )
        self._metrics.retracted(direction, worst.category)

    async def _publish(self, verdict: LateVerdict) -> None:
        """Publish, however long Redis is away: what was found is not found a second time for nothing."""
        wait_s = FIRST_RETRY_S
        while True:
            try:
                await self._publisher.publish(verdict)
            except DomainError as error:
                _log.warning("a late verdict waits", extra={"reason": error.reason.value})
                await asyncio.sleep(wait_s * (0.5 + random.random()))
                wait_s = min(wait_s * 2, LONGEST_RETRY_S)
            else:
                return
