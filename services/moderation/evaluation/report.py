"""All figures of an evaluation in one place."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.moderation.evaluation import timing
from services.moderation.evaluation.entities import EntityReport, evaluate_entities
from services.moderation.evaluation.groups import Figure, GroupFigures, Groups
from services.moderation.evaluation.metrics import number_clusters, ratio, share_interval
from services.moderation.evaluation.outcomes import Outcome

OVERALL = "overall"
TOTAL = "all"


@dataclass(frozen=True, slots=True)
class FalsePositives:
    """What was flagged of safe texts."""

    rows: int
    flagged: int
    rate: Figure

    def as_json(self) -> dict[str, object]:
        """For programs."""
        return {"rows": self.rows, "flagged": self.flagged, **self.rate.as_json()}


@dataclass(frozen=True, slots=True)
class Report:
    """The evaluation of one judge on one folder.

    Attributes:
        groups: By kind of group (`overall`, `directions`, `heads`, `sets`, `categories`) and name. All but the heads
            and sets that ask for entities leave rows out that do.
        benign: False positives on ordinary prompts, by set, and all of them.
        safe: False positives on all safe texts, by set.
    """

    versions: Mapping[str, str]
    rows: int
    resamples: int
    seed: int
    groups: Mapping[str, Mapping[str, GroupFigures]]
    benign: Mapping[str, FalsePositives]
    safe: Mapping[str, FalsePositives]
    entities: EntityReport
    latency: Mapping[str, Any]
    tiers: Mapping[str, Mapping[str, float]]
    layers: Mapping[str, Mapping[str, float]]
    disagreement: Sequence[Mapping[str, Any]]

    def as_json(self) -> dict[str, Any]:
        """For programs: what cannot be computed is null."""
        groups = {
            kind: {name: figures.as_json() for name, figures in named.items()} for kind, named in self.groups.items()
        }
        return {
            "versions": dict(self.versions),
            "rows": self.rows,
            "bootstrap": self.resamples,
            "seed": self.seed,
            OVERALL: groups[OVERALL].get(OVERALL),
            **{kind: named for kind, named in groups.items() if kind != OVERALL},
            "benign": {name: positives.as_json() for name, positives in self.benign.items()},
            "safe": {name: positives.as_json() for name, positives in self.safe.items()},
            "entities": self.entities.as_json(),
            "latency": dict(self.latency),
            "tiers": dict(self.tiers),
            "layers": dict(self.layers),
            "disagreement": list(self.disagreement),
        }


def evaluate(
    outcomes: Sequence[Outcome],
    *,
    versions: Mapping[str, str],
    looked_for: Iterable[str],
    resamples: int,
    seed: int,
) -> Report:
    """Compute everything that is known of outcomes."""
    judged = [at for at, outcome in enumerate(outcomes) if not outcome.row.is_pii]
    everything = range(len(outcomes))
    named = {
        OVERALL: {OVERALL: judged} if judged else {},
        "directions": _by(outcomes, judged, lambda outcome: [outcome.row.kind]),
        "heads": _by(outcomes, everything, lambda outcome: [outcome.row.head]),
        "sets": _by(outcomes, everything, lambda outcome: [outcome.row.set]),
        "categories": _by(outcomes, judged, lambda outcome: outcome.row.categories),
    }
    groups = Groups(outcomes)
    for kind, members in named.items():
        for name, places in members.items():
            groups.add(f"{kind}/{name}", places, among_own=kind != "categories")
    figures = groups.evaluate(resamples=resamples, seed=seed)
    asked = [outcome for outcome in outcomes if not outcome.row.is_pii]
    return Report(
        versions=versions,
        rows=len(outcomes),
        resamples=resamples,
        seed=seed,
        groups={kind: {name: figures[f"{kind}/{name}"] for name in members} for kind, members in named.items()},
        benign=_false_positives([outcome for outcome in asked if outcome.row.head == "benign"]),
        safe=_false_positives(outcomes),
        entities=evaluate_entities(outcomes, looked_for),
        latency=timing.latency(outcomes),
        tiers=timing.tiers(outcomes),
        layers=timing.layers(asked),
        disagreement=timing.disagreement(asked),
    )


def _by(
    outcomes: Sequence[Outcome], places: Iterable[int], names_of: Callable[[Outcome], Iterable[str]]
) -> dict[str, list[int]]:
    members: dict[str, list[int]] = defaultdict(list)
    for place in places:
        for name in dict.fromkeys(names_of(outcomes[place])):
            members[name].append(place)
    return dict(sorted(members.items()))


def _false_positives(outcomes: Sequence[Outcome]) -> dict[str, FalsePositives]:
    """By set, and of all that do not ask for entities."""
    by_set: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        if not outcome.row.unsafe:
            by_set[outcome.row.set].append(outcome)
    counted = {name: _count(members) for name, members in sorted(by_set.items())}
    together = [outcome for members in by_set.values() for outcome in members if not outcome.row.is_pii]
    return {**counted, TOTAL: _count(together)} if together else counted


def _count(outcomes: Sequence[Outcome]) -> FalsePositives:
    flagged = [outcome.flagged for outcome in outcomes]
    clusters = number_clusters([outcome.row.cluster for outcome in outcomes])
    rate = Figure(ratio(sum(flagged), len(flagged)), share_interval(flagged, clusters))
    return FalsePositives(len(flagged), sum(flagged), rate)
