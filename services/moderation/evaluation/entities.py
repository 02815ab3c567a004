"""How exactly entities are found: whether each span is there, of its type and with its very ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from services.moderation.evaluation.groups import Figure
from services.moderation.evaluation.metrics import Interval, ratio, wilson
from services.moderation.evaluation.outcomes import Outcome

TOTAL = "all"

_NAMES = {
    "credit_card": "card_number",
    "email_address": "email",
    "iban_code": "iban",
    "phone_number": "phone",
    "ssn": "us_ssn",
}
"""Names that data sets give to entities, by ours."""


def entity_name(name: str) -> str:
    """Our name of an entity."""
    lower = name.lower()
    return _NAMES.get(lower, lower)


@dataclass(slots=True)
class EntityFigures:
    """Spans of one type: those that are there, those that were found, and those that are both.

    Attributes:
        touched: Spans that are there and of which at least a part was found, as whatever type.
    """

    labelled: int = 0
    found: int = 0
    exact: int = 0
    touched: int = 0

    def as_json(self) -> dict[str, object]:
        """For programs."""
        return {
            "labelled": self.labelled,
            "found": self.found,
            "exact": self.exact,
            "precision": self.precision.as_json(),
            "recall": self.recall.as_json(),
            "f1": ratio(2 * self.exact, self.labelled + self.found) if self.labelled + self.found else None,
            "touched": self.share_touched.as_json(),
        }

    @property
    def precision(self) -> Figure:
        """Share of what was found that is there, with these ends."""
        return _share(self.exact, self.found)

    @property
    def recall(self) -> Figure:
        """Share of what is there that was found, with these ends."""
        return _share(self.exact, self.labelled)

    @property
    def share_touched(self) -> Figure:
        """Share of what is there of which a part was found."""
        return _share(self.touched, self.labelled)


@dataclass(frozen=True, slots=True)
class EntityReport:
    """All types, and the spans of types that nobody looks for, such as names of persons."""

    types: dict[str, EntityFigures] = field(default_factory=dict)
    not_looked_for: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> dict[str, object]:
        """For programs."""
        return {
            "types": {name: figures.as_json() for name, figures in self.types.items()},
            "not_looked_for": dict(self.not_looked_for.most_common()),
        }


def evaluate_entities(outcomes: Sequence[Outcome], looked_for: Iterable[str]) -> EntityReport:
    """The figures of every type that is looked for, and of all of them, from the rows that say their spans."""
    known = set(looked_for)
    report = EntityReport()
    total = EntityFigures()
    for outcome in outcomes:
        if outcome.row.spans is None:
            continue
        labelled = [(entity_name(span.type), span.start, span.end) for span in outcome.row.spans]
        found = {(span.entity, span.start, span.end) for span in outcome.spans}
        report.not_looked_for.update(name for name, _, _ in labelled if name not in known)
        there = {span for span in labelled if span[0] in known}
        for name in {name for name, _, _ in there | found}:
            _count(report.types.setdefault(name, EntityFigures()), name, there, found)
    for figures in report.types.values():
        total.labelled += figures.labelled
        total.found += figures.found
        total.exact += figures.exact
        total.touched += figures.touched
    ordered = dict(sorted(report.types.items()))
    return EntityReport({**ordered, TOTAL: total} if ordered else {}, report.not_looked_for)


def _count(
    figures: EntityFigures, name: str, there: set[tuple[str, int, int]], found: set[tuple[str, int, int]]
) -> None:
    mine = {span for span in there if span[0] == name}
    figures.labelled += len(mine)
    figures.found += sum(span[0] == name for span in found)
    figures.exact += len(mine & found)
    figures.touched += sum(any(start < other and begin < end for _, begin, other in found) for _, start, end in mine)


def _share(part: int, whole: int) -> Figure:
    interval = wilson(part, whole)
    return Figure(ratio(part, whole), Interval(interval.low, interval.high))
