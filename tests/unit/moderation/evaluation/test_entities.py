"""Exact spans."""

from __future__ import annotations

import pytest

from services.moderation.evaluation.entities import entity_name, evaluate_entities
from services.moderation.evaluation.judging import FoundSpan
from services.moderation.evaluation.outcomes import Outcome
from tests.unit.moderation.evaluation.scripted import text

LOOKED_FOR = {"email", "card_number"}

Spans = list[tuple[str, int, int]]


def outcome(labelled: Spans | None, found: Spans) -> Outcome:
    spans = None if labelled is None else [{"type": name, "start": at, "end": to} for name, at, to in labelled]
    row = text("unsafe", text="x" * 40, head="pii", spans=spans)
    return Outcome(row, 1.0, True, "pii", 0.001, 0.001, spans=[FoundSpan(*span) for span in found])


def test_spans_by_hand() -> None:
    report = evaluate_entities(
        [
            outcome([("EMAIL_ADDRESS", 0, 5), ("CREDIT_CARD", 10, 20)], [("email", 0, 5), ("card_number", 10, 19)]),
            outcome([("email", 0, 5)], []),
            outcome([], [("email", 3, 9)]),
            outcome([("PERSON", 0, 4), ("PERSON", 6, 9)], []),
        ],
        LOOKED_FOR,
    )
    email, card, total = (report.types[name] for name in ("email", "card_number", "all"))
    assert (email.labelled, email.found, email.exact, email.touched) == (2, 2, 1, 1)
    assert (card.labelled, card.found, card.exact, card.touched) == (1, 1, 0, 1), "one character short is not exact"
    assert (total.labelled, total.found, total.exact) == (3, 3, 1)
    assert email.precision.value == email.recall.value == 1 / 2
    assert report.not_looked_for == {"person": 2}
    assert email.as_json()["f1"] == 1 / 2


def test_the_type_counts() -> None:
    report = evaluate_entities([outcome([("email", 0, 5)], [("card_number", 0, 5)])], LOOKED_FOR)
    assert report.types["email"].exact == 0
    assert report.types["email"].touched == 1
    assert report.types["card_number"].found == 1


def test_rows_that_do_not_say_their_spans_do_not_count() -> None:
    assert not evaluate_entities([outcome(None, [("email", 0, 5)])], LOOKED_FOR).types


@pytest.mark.parametrize(("name", "ours"), [("IBAN_CODE", "iban"), ("us_ssn", "us_ssn"), ("Phone_Number", "phone")])
def test_names_of_entities(name: str, ours: str) -> None:
    assert entity_name(name) == ours
