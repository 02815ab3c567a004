"""The decision about one generation: the models that may answer, then the replica with the least expected wait."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from services.router.auto import Prospect, fits, rank, taken
from services.router.classifier import classify
from services.router.experiments import DealtArm
from services.router.fleet import Fleet
from services.router.meaning import Meaning, pool_preferences
from services.router.model import (
    Decision,
    Lease,
    LoadedRegistry,
    ModelScore,
    Option,
    Placement,
    RouteQuery,
    ShadowLease,
)
from services.router.registry_file import RegistrySource
from services.router.selection import Selection, Step, fallback_steps, missing_capability, select_models
from services.router.shadows import shadows_of
from services.runtime.clock import Clock
from services.runtime.errors import DomainError, Reason
from services.runtime.model_registry import DEFAULT_ALIAS, ModelEntry
from services.runtime.registry_checks import targets_of
from services.runtime.routing_policy import Cascade, PriorityName

_log = logging.getLogger(__name__)

SHOWN_CANDIDATES = 8
"""Candidates that a receipt names. It is stored with the answer, so it must not grow with the fleet."""

RETRY_AFTER_S = 1.0
"""A replica that was restarted reports again in about this time."""

_NOT_TO_BE_PROBED = frozenset({"tools", "json", "embeddings"})
"""An answer of these kinds does not show by its beginning how good it is."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """Models to try, in order, and why in this order."""

    selection: Selection
    rule: str
    steps: Sequence[Step]
    models: tuple[ModelScore, ...] = ()
    classification: str = ""


class RouteGeneration:
    """Decides where generations run. All it needs is in memory, but for the embedding of a request that leaves the
    choice of the model to it and of which its rules are unsure."""

    def __init__(
        self,
        *,
        registry: RegistrySource,
        fleet: Fleet,
        clock: Clock,
        new_id: Callable[[], str],
        lease_ttl_s: float,
        meaning: Meaning | None = None,
    ) -> None:
        self._registry = registry
        self._fleet = fleet
        self._clock = clock
        self._new_id = new_id
        self._lease_ttl = timedelta(seconds=lease_ttl_s)
        self._meaning = meaning

    async def decide(self, query: RouteQuery) -> Decision:
        """Choose a model and a replica, and count the generation as that replica's load from now on.

        Raises:
            DomainError: MODEL_NOT_FOUND, MODEL_NOT_ALLOWED, UNSUPPORTED_CAPABILITY, NO_REPLICA, RESIDENCY_UNAVAILABLE.
        """
        loaded = self._registry.current
        if query.failed_replica_id:
            now = self._clock.monotonic()
            self._fleet.failed(query.failed_replica_id, generation_id=query.generation_id, model=query.model, now=now)
        if query.residency:
            query = replace(query, allowed_regions=_allowed_regions(loaded, query))
        asked = self._select(loaded, query.model, query)
        arms = self._arms(loaded, asked.requested, query)
        attempts = list(self._attempts(loaded, asked, arms, query))
        plans: dict[str, _Plan] = {}
        # What has failed lately is used only when nothing else can answer, a fallback included.
        for bypass in (False, True):
            for selection, prefix in attempts:
                if prefix not in plans:
                    plans[prefix] = await self._plan(loaded, selection, prefix, query)
                plan = plans[prefix]
                for step in self._steps(loaded, plan, query):
                    placement = self._place(loaded, step.entry, query, bypass=bypass)
                    if placement is not None:
                        return self._decision(loaded, query, asked=asked, plan=plan, step=step, on=placement, arms=arms)
        raise self._no_replica(asked.requested, query)

    def reported(self, model: str) -> frozenset[str] | None:
        """What the replicas of a model say that it can do; None when there are none, or they do not say."""
        return self._fleet.capabilities(model) or None

    def _select(self, loaded: LoadedRegistry, name: str, query: RouteQuery) -> Selection:
        return select_models(loaded, requested=name, tier=query.tier, needs=query.capabilities, reported=self.reported)

    def _arms(self, loaded: LoadedRegistry, alias: str, query: RouteQuery) -> tuple[DealtArm, ...]:
        if query.background or query.escalated_from or query.continues:
            return ()
        return loaded.dealing.arms(alias=alias, user_id=query.user_id, tier=query.tier)

    def _attempts(
        self, loaded: LoadedRegistry, asked: Selection, arms: Sequence[DealtArm], query: RouteQuery
    ) -> Iterator[tuple[Selection, str]]:
        """What to try, with the prefix of its rule: the model of an experiment's arm before what was asked for."""
        if query.escalated_from:
            yield asked, "cascade/"
            return
        for arm in arms:
            if arm.model is None:
                continue
            try:
                yield self._select(loaded, arm.model, query), f"experiment:{arm.experiment}/"
            except DomainError:
                # The arm cannot do what this request needs. That is no reason to refuse what could be done without it.
                continue
        yield asked, ""

    async def _plan(self, loaded: LoadedRegistry, selection: Selection, prefix: str, query: RouteQuery) -> _Plan:
        rule = prefix + selection.rule
        if selection.auto is None:
            return _Plan(selection, rule, [Step(entry, rule) for entry in selection.entries])
        fitting = [entry for entry in selection.entries if fits(entry, prompt_characters=query.prompt_characters)]
        # When none seems to fit, whoever counts the tokens decides, and not a guess.
        fitting = fitting or list(selection.entries)
        told = [*selection.refused]
        told += [ModelScore(entry.name, reason="context") for entry in selection.entries if entry not in fitting]
        prospects = [prospect for entry in fitting if (prospect := self._prospect(loaded, entry, query)) is not None]
        there = [prospect.entry for prospect in prospects]
        told += [ModelScore(entry.name, reason="no_replica") for entry in fitting if entry not in there]
        if len(there) < 2:
            scores = tuple(ModelScore(entry.name) for entry in there)
            return _Plan(selection, rule, [Step(entry, rule) for entry in there], (*scores, *told))
        found = classify(query.prompt, characters=query.prompt_characters)
        if self._meaning is not None:
            found = await self._meaning.refine(
                found, name=selection.requested, auto=selection.auto, loaded=loaded, query=query
            )
        order, scores = rank(
            prospects,
            classification=found,
            prompt_characters=query.prompt_characters,
            wait_cost_per_s=selection.auto.wait_cost_per_s,
        )
        return _Plan(selection, rule, [Step(entry, rule) for entry in order], (*scores, *told), str(found))

    def _prospect(self, loaded: LoadedRegistry, entry: ModelEntry, query: RouteQuery) -> Prospect | None:
        outlook = self._fleet.outlook(
            entry.name,
            pools=pool_preferences(loaded.registry, entry),
            allowed_regions=query.allowed_regions,
            now=self._clock.monotonic(),
        )
        return Prospect(entry, outlook.wait_ms) if outlook.ready else None

    def _steps(self, loaded: LoadedRegistry, plan: _Plan, query: RouteQuery) -> Iterator[Step]:
        yield from plan.steps
        # Also those of models that have no replica now, which is when a fallback is wanted.
        steps = [Step(entry, plan.rule) for entry in plan.selection.entries]
        yield from fallback_steps(loaded, steps, tier=query.tier, needs=query.capabilities, reported=self.reported)

    def _place(
        self, loaded: LoadedRegistry, entry: ModelEntry, query: RouteQuery, *, bypass: bool = True
    ) -> Placement | None:
        pools = pool_preferences(loaded.registry, entry)
        return self._fleet.place(query, model=entry.name, pools=pools, bypass=bypass, now=self._clock.monotonic())

    def _decision(
        self,
        loaded: LoadedRegistry,
        query: RouteQuery,
        *,
        asked: Selection,
        plan: _Plan,
        step: Step,
        on: Placement,
        arms: tuple[DealtArm, ...],
    ) -> Decision:
        return Decision(
            lease=self._lease(on.chosen.option),
            requested_model=asked.requested,
            entry=step.entry,
            rule=f"{step.rule}/{on.rule}",
            chosen=on.chosen.option,
            candidates=on.ranked[:SHOWN_CANDIDATES],
            ready_replicas=self._ready(loaded, step.entry, query),
            priority=_priority(loaded, query),
            models=taken(plan.models, model=step.entry.name),
            classification=plan.classification,
            experiments=arms,
            escalated_from=query.escalated_from,
            cascade=self._cascade(loaded, plan.selection, step.entry, query),
            shadows=self._shadows(loaded, asked.requested, step.entry, query),
        )

    def _cascade(
        self, loaded: LoadedRegistry, selection: Selection, entry: ModelEntry, query: RouteQuery
    ) -> Cascade | None:
        """The cascade that begins with the chosen model, when there is somebody to escalate to."""
        cascade = selection.auto.cascade if selection.auto is not None else None
        if cascade is None or cascade.first != entry.name or query.background:
            return None
        if query.escalated_from or query.continues:
            return None
        if query.capabilities & _NOT_TO_BE_PROBED:
            return None
        for name in targets_of(loaded.registry, cascade.then):
            target = loaded.entries[name]
            able = target.allows(query.tier) and not missing_capability(target, query.capabilities, self.reported)
            if able and self._ready(loaded, target, query):
                return cascade
        return None

    def _shadows(
        self, loaded: LoadedRegistry, alias: str, entry: ModelEntry, query: RouteQuery
    ) -> tuple[ShadowLease, ...]:
        """Where copies go. Not those of a second try: they went when the first one was routed."""
        if query.background or query.escalated_from or "embeddings" in query.capabilities:
            return ()
        if query.excluded_replica_ids or query.failed_replica_id or query.continues:
            return ()
        leases = []
        for shadow in shadows_of(loaded.registry.shadows, alias=alias, generation_id=query.generation_id):
            target = loaded.entries[shadow.to]
            # A copy to the model that answers anyway would show nothing.
            if target.name == entry.name or missing_capability(target, query.capabilities, self.reported):
                continue
            copy = replace(query, generation_id=f"{query.generation_id}/shadow:{shadow.name}")
            placement = self._place(loaded, target, copy)
            if placement is not None:
                lease = self._lease(placement.chosen.option)
                leases.append(ShadowLease(shadow.name, lease, target, self._ready(loaded, target, query)))
        return tuple(leases)

    def _lease(self, option: Option) -> Lease:
        return Lease(
            lease_id=self._new_id(),
            replica_id=option.replica_id,
            address=option.address,
            expires=self._clock.now() + self._lease_ttl,
        )

    def _ready(self, loaded: LoadedRegistry, entry: ModelEntry, query: RouteQuery) -> int:
        pools = pool_preferences(loaded.registry, entry)
        return self._fleet.ready(entry.name, pools=pools, allowed_regions=query.allowed_regions)

    def _no_replica(self, model: str, query: RouteQuery) -> DomainError:
        if query.residency and not query.excluded_replica_ids:
            return _outside(
                model,
                query.residency,
                f"The model {model!r} cannot answer now: no replica that serves it is up in the regions where data of "
                f"the residency {query.residency!r} must stay.",
            )
        if not self._fleet.reporting:
            why = "no inference replica is up"
        elif query.excluded_replica_ids:
            why = "every replica that serves it has just failed this request, is draining or is down"
        else:
            why = "no replica that serves it is up, or all of them are draining"
        return DomainError(
            Reason.NO_REPLICA,
            f"The model {model!r} cannot answer now: {why}. Try again shortly.",
            metadata={"model": model},
            retry_after_s=RETRY_AFTER_S,
        )


def _allowed_regions(loaded: LoadedRegistry, query: RouteQuery) -> frozenset[str]:
    regions = loaded.registry.residencies.get(query.residency)
    if regions is None:
        # Who asks need not know where the others' data may go.
        _log.warning(
            "the models file lacks a residency of a user",
            extra={"residency": query.residency, "known": sorted(loaded.registry.residencies)},
        )
        raise _outside(
            query.model or DEFAULT_ALIAS,
            query.residency,
            f"The residency {query.residency!r} of your token is not known here, so your data may go nowhere. Ask the "
            "operator of this mesh to add its regions to `residencies` in the models file, or for another token.",
        )
    return frozenset(regions)


def _outside(model: str, residency: str, text: str) -> DomainError:
    return DomainError(Reason.RESIDENCY_UNAVAILABLE, text, metadata={"model": model, "residency": residency})


def _priority(loaded: LoadedRegistry, query: RouteQuery) -> PriorityName:
    if query.background:
        return "background"
    tier = loaded.registry.tiers.get(query.tier)
    return tier.priority if tier is not None else "normal"
