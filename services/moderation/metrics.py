"""What Moderation counts. Labels come from the policy, never from a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from opentelemetry.metrics import Meter, Observation

from services.moderation.classifier import Scores
from services.moderation.model import Action, Direction, Layer, Outcome, Verdict
from services.moderation.policy_file import ATTACK_CATEGORY

_SECONDS = [1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 5e-3, 2e-2, 0.1, 0.5, 2.0]


class ModerationMetrics:
    """Counts verdicts and findings, and how long the layers take."""

    def __init__(self, *, meter: Meter, policy_refused: Callable[[], bool] = lambda: False) -> None:
        meter.create_observable_gauge(
            "chatmesh.moderation.policy_file.refused",
            callbacks=[lambda _: [Observation(policy_refused())]],
            description="1 while the policy file on disk is refused and the one before it in force, else 0.",
        )
        self._verdicts = meter.create_counter(
            "chatmesh.moderation.verdicts",
            description="Texts judged, by direction and the strictest action. An answer that a peer sends again, as "
            "its stream was lost, counts again.",
        )
        self._findings = meter.create_counter(
            "chatmesh.moderation.findings", description="Findings, by direction, category, layer, rule and action."
        )
        self._seconds = meter.create_histogram(
            "chatmesh.moderation.scan.duration",
            unit="s",
            description="Time to search what came in one message of a stream.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._layers = meter.create_histogram(
            "chatmesh.moderation.layer.duration",
            unit="s",
            description="Time that a layer took for one input.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._unchecked = meter.create_counter(
            "chatmesh.moderation.unchecked", description="Texts that passed without a layer that did not answer."
        )
        self._given_up = meter.create_counter(
            "chatmesh.moderation.answers.given_up",
            description="Answers about which nothing more was said because of a fault in judging them, by its type.",
        )
        self._batches = meter.create_histogram(
            "chatmesh.moderation.classifier.batch.duration",
            unit="s",
            description="Time that the classifier took for a batch.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._tiers = meter.create_counter(
            "chatmesh.moderation.classifier.texts",
            description="Texts scored, by direction and the last tier that looked.",
        )
        self._disagreements = meter.create_counter(
            "chatmesh.moderation.disagreements",
            description="Inputs of which two layers say different things, by the layer that found something.",
        )

    def judged(self, direction: Direction, action: Action) -> None:
        """A text was judged to its end."""
        self._verdicts.add(1, {"direction": direction.value, "action": action.name.lower()})

    def input_judged(self, verdict: Verdict) -> None:
        """An input was judged."""
        self.judged(Direction.INPUT, verdict.action)
        for finding in verdict.findings:
            self.found(Direction.INPUT, finding.outcome)
        for layer in verdict.layers:
            self._layers.record(layer.seconds, {"layer": layer.layer.value})
            if layer.unchecked:
                self.unchecked(Direction.INPUT, layer.layer)
        self._compare(verdict)

    def _compare(self, verdict: Verdict) -> None:
        """Rules look for other things than the rest, so they are not compared; patterns of attacks know of attacks."""
        asked = {result.layer for result in verdict.layers if not result.unchecked}
        found = {(f.outcome.layer, f.outcome.category) for f in verdict.findings if f.outcome.action > Action.ALLOW}
        harms = {layer for layer, _ in found}
        attacks = {layer for layer, category in found if category == ATTACK_CATEGORY}
        for layer, finders in ((Layer.ATTACKS, attacks), (Layer.GUARD, harms)):
            pair = {layer, Layer.CLASSIFIER}
            if pair <= asked and len(pair & finders) == 1:
                (finder,), (other,) = pair & finders, pair - finders
                self._disagreements.add(1, {"found": finder.value, "missed": other.value})

    def found(self, direction: Direction, outcome: Outcome) -> None:
        """A layer found something."""
        self._findings.add(
            1,
            {
                "direction": direction.value,
                "category": outcome.category,
                "layer": outcome.layer.value,
                "rule": outcome.rule,
                "action": outcome.action.name.lower(),
            },
        )

    def unchecked(self, direction: Direction, layer: Layer) -> None:
        """A text passed without a layer."""
        self._unchecked.add(1, {"direction": direction.value, "layer": layer.value})

    def given_up(self, error: Exception) -> None:
        """An answer cannot be judged."""
        self._given_up.add(1, {"error": type(error).__name__})

    def scanned(self, direction: Direction, *, seconds: float) -> None:
        """The texts of one message were searched."""
        self._seconds.record(seconds, {"direction": direction.value})

    def classified(self, direction: Direction, scores: Sequence[Scores], *, seconds: float) -> None:
        """A batch was scored."""
        self._batches.record(seconds, {"direction": direction.value})
        for found in scores:
            self._tiers.add(1, {"direction": direction.value, "tier": found.tier})
