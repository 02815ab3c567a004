"""What is counted of a verdict."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from services.moderation.metrics import ModerationMetrics
from services.moderation.model import Action, Finding, Layer, LayerResult, Outcome, Verdict


def disagreements(verdict: Verdict) -> list[tuple[object, object]]:
    reader = InMemoryMetricReader()
    ModerationMetrics(meter=MeterProvider([reader]).get_meter("test")).input_judged(verdict)
    data = reader.get_metrics_data()
    assert data is not None
    return [
        (point.attributes["found"], point.attributes["missed"])
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "chatmesh.moderation.disagreements"
        for point in metric.data.data_points
        if point.attributes is not None
    ]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], []),
        ([("jailbreak", Layer.ATTACKS)], [("attacks", "classifier")]),
        ([("jailbreak", Layer.CLASSIFIER)], [("classifier", "attacks")]),
        ([("jailbreak", Layer.ATTACKS), ("jailbreak", Layer.CLASSIFIER)], []),
        # Patterns of attacks know nothing of violence.
        ([("violence", Layer.CLASSIFIER)], []),
        ([("jailbreak", Layer.ATTACKS), ("violence", Layer.CLASSIFIER)], [("attacks", "classifier")]),
    ],
)
def test_layers_are_compared_in_what_both_look_for(
    found: list[tuple[str, Layer]], expected: list[tuple[str, str]]
) -> None:
    findings = tuple(Finding(0, 1, Outcome(name, "r", Action.WARN, "", layer)) for name, layer in found)
    layers = tuple(LayerResult(layer, Action.ALLOW, 0.001) for layer in (Layer.ATTACKS, Layer.CLASSIFIER))
    verdict = Verdict(Action.WARN, findings, None, layers=layers)
    assert disagreements(verdict) == expected
