"""The answers that one peer is streaming."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from services.moderation.gate import Gate
from services.moderation.model import Action, Progress, Segment
from services.moderation.policy import Policy


class Answers:
    """One gate for each generation of a peer, from its first segment to its last."""

    def __init__(self, *, policy: Policy, on_done: Callable[[Action], None]) -> None:
        self._policy = policy
        self._on_done = on_done
        self._gates: dict[str, Gate] = {}

    def __len__(self) -> int:
        return len(self._gates)

    def take(self, segment: Segment) -> Progress | None:
        """Take the next segment of a generation; None when there is nothing new to say about it."""
        generation_id = segment.generation_id
        gate = self._gates.get(generation_id)
        if segment.abandoned:
            self._gates.pop(generation_id, None)
            return None
        if gate is None:
            gate = self._gates[generation_id] = Gate(rules=self._policy.output_rules, max_held=self._policy.max_held)
        progress = None
        if not gate.done:
            progress = gate.feed(segment.text, last=segment.last)
            if progress is not None and progress.done:
                self._on_done(gate.action)
        if segment.last:
            # A blocked answer is kept until the peer says that it ends: what it still sends must not begin a new one.
            del self._gates[generation_id]
        return progress


def merge(progress: Iterable[tuple[str, Progress]]) -> dict[str, Progress]:
    """What was said about each generation, one after the other, as one."""
    merged: dict[str, Progress] = {}
    for generation_id, later in progress:
        earlier = merged.get(generation_id)
        if earlier is not None:
            later = replace(later, retractions=earlier.retractions + later.retractions)
        merged[generation_id] = later
    return merged
