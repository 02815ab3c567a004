"""The decision about one generation: the models that may answer, then the replica with the least expected wait."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

from services.router.fleet import Fleet
from services.router.model import Decision, Lease, LoadedRegistry, RouteQuery
from services.router.placement import place
from services.router.selection import select_models
from services.runtime.clock import Clock
from services.runtime.errors import DomainError, Reason

SHOWN_CANDIDATES = 8
"""Candidates that a receipt names. It is stored with the answer, so it must not grow with the fleet."""


class RegistrySource(Protocol):
    """Where the registry in force is found."""

    @property
    def current(self) -> LoadedRegistry:
        """The registry in force."""
        ...


class RouteGeneration:
    """Decides where generations run. It waits for nothing: all it needs is in memory."""

    def __init__(
        self, *, registry: RegistrySource, fleet: Fleet, clock: Clock, new_id: Callable[[], str], lease_ttl_s: float
    ) -> None:
        self._registry = registry
        self._fleet = fleet
        self._clock = clock
        self._new_id = new_id
        self._lease_ttl = timedelta(seconds=lease_ttl_s)

    def decide(self, query: RouteQuery) -> Decision:
        """Choose a model and a replica, and count the generation as that replica's load from now on.

        Raises:
            DomainError: MODEL_NOT_FOUND, MODEL_NOT_ALLOWED, NO_REPLICA.
        """
        selection = select_models(self._registry.current, requested=query.model, tier=query.tier)
        now = self._clock.monotonic()
        key = query.conversation_id or query.generation_id
        for entry in selection.entries:
            options = self._fleet.options(entry.name, key=key, excluded=query.excluded_replica_ids, now=now)
            placement = place(options, sticky=bool(query.conversation_id))
            if placement is None:
                continue
            option = placement.chosen.option
            self._fleet.count_lease(entry.name, option, now=now)
            return Decision(
                lease=Lease(
                    lease_id=self._new_id(),
                    replica_id=option.replica_id,
                    address=option.address,
                    expires=self._clock.now() + self._lease_ttl,
                ),
                requested_model=selection.requested,
                entry=entry,
                rule=f"{selection.rule}/{placement.rule}",
                candidates=placement.ranked[:SHOWN_CANDIDATES],
                ready_replicas=self._fleet.ready(entry.name),
            )
        raise self._no_replica(selection.requested, excluded=len(query.excluded_replica_ids))

    def _no_replica(self, model: str, *, excluded: int) -> DomainError:
        if not self._fleet.reporting:
            why = "no inference replica is up"
        elif excluded:
            why = "every replica that serves it has just failed this request, is draining or is down"
        else:
            why = "no replica that serves it is up, or all of them are draining"
        return DomainError(
            Reason.NO_REPLICA,
            f"The model {model!r} cannot answer now: {why}. Try again shortly.",
            metadata={"model": model},
        )
