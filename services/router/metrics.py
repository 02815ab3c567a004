"""What the Router counts."""

from __future__ import annotations

from collections.abc import Iterable

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from services.router.fleet import Fleet
from services.router.model import Decision
from services.router.registry_file import RegistrySource
from services.runtime.errors import Reason


class RouterMetrics:
    """Counts decisions by model and rule, refusals by reason, and the replicas that report; says whether the models
    file is in force.

    Labels come from the registry, never from a request: anything else would let callers make series at will.
    """

    def __init__(self, *, meter: Meter, fleet: Fleet, registry: RegistrySource) -> None:
        self._fleet = fleet
        self._registry = registry
        self._decisions = meter.create_counter(
            "chatmesh.router.decisions", description="Generations routed, by model and rule."
        )
        self._refusals = meter.create_counter(
            "chatmesh.router.refusals", description="Generations that could not be routed, by reason."
        )
        self._seconds = meter.create_histogram(
            "chatmesh.router.decision.duration",
            unit="s",
            description="Time that a decision takes.",
            explicit_bucket_boundaries_advisory=[1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 5e-3],
        )
        self._classifications = meter.create_counter(
            "chatmesh.router.classifications",
            description="Requests that left the choice of the model to the router, by what they were taken for.",
        )
        self._comparisons = meter.create_counter(
            "chatmesh.router.comparisons",
            description="Requests that the rules were unsure of, by how the comparison with the examples ended.",
        )
        self._exposures = meter.create_counter(
            "chatmesh.router.exposures", description="Generations routed in an arm of an experiment, by both."
        )
        self._shadows = meter.create_counter("chatmesh.router.shadows", description="Copies routed, by shadow.")
        meter.create_observable_gauge(
            "chatmesh.router.replicas", callbacks=[self._replicas], description="Inference replicas that report."
        )
        meter.create_observable_gauge(
            "chatmesh.router.models_file.refused",
            callbacks=[self._refused],
            description="1 while the models file on disk is refused and the one before it in force, else 0.",
        )

    def decided(self, decision: Decision, *, seconds: float) -> None:
        """A generation was routed."""
        self._decisions.add(1, {"model": decision.entry.name, "rule": decision.rule})
        self._seconds.record(seconds)
        if decision.classification:
            kind, _, _ = decision.classification.partition(":")
            self._classifications.add(1, {"class": kind})
        for arm in decision.experiments:
            self._exposures.add(1, {"experiment": arm.experiment, "arm": arm.arm})
        for shadow in decision.shadows:
            self._shadows.add(1, {"shadow": shadow.name})

    def compared(self, outcome: str) -> None:
        """The classifier wanted to compare a request with the examples."""
        self._comparisons.add(1, {"outcome": outcome})

    def refused(self, reason: Reason) -> None:
        """A generation was not routed."""
        self._refusals.add(1, {"reason": reason.value})

    def _replicas(self, _options: CallbackOptions) -> Iterable[Observation]:
        yield Observation(self._fleet.reporting)

    def _refused(self, _options: CallbackOptions) -> Iterable[Observation]:
        yield Observation(int(bool(self._registry.refused)))
