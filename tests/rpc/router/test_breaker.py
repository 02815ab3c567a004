"""Failures that callers tell the Router, over the wire."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from services.runtime.errors import Reason
from tests.rpc.router.calls import client

Wait = Callable[[Callable[[], object], str], None]
Start = Callable[..., Any]


def model(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "engine": "synthetic", "context_length": 2048, "max_output_tokens": 1024, **more}


def test_one_failure_that_cannot_be_served_does_not_open_the_breaker(
    start_router: Start, start_replica: Start, wait_until: Wait
) -> None:
    """The refusal is UNAVAILABLE, so the caller's runtime makes the call again and again, as it is."""
    with client(start_router(start_replica("r1"))) as calls:
        wait_until(calls.healthy, "serving")
        calls.route("small", generation_id="g")
        for _ in range(5):
            error = calls.refusal("small", generation_id="g", excluded=("r1",), failed_replica_id="r1")
            assert error.reason is Reason.NO_REPLICA
        assert calls.route("small").receipt.rule == "model/only"


def test_what_fails_is_left_for_a_fallback_and_used_only_when_there_is_nothing_else(
    models_file: Path, start_router: Start, start_replica: Start, wait_until: Wait
) -> None:
    models_file.write_text(yaml.safe_dump({"models": [model("first", fallbacks=["second"]), model("second")]}))
    replica = start_replica("r1", models={"first": 4})
    other = start_replica("r2", models={"second": 4})
    with client(start_router(replica, other)) as calls:
        wait_until(lambda: all(each.ready_replicas == 1 for each in calls.models().models), "both report")

        def fail() -> str:
            """The replica fails a generation, and the caller asks again."""
            assert calls.route("first", generation_id="g").lease.replica_id == "r1"
            again = calls.route("first", generation_id="g", excluded=("r1",), failed_replica_id="r1")
            return str(again.receipt.rule)

        assert [fail() for _ in range(3)] == ["model/fallback:second/only"] * 3
        # No report tells of success here, so it is never more than probed.
        rules = {calls.route("first").receipt.rule for _ in range(4)}
        assert rules <= {"model/fallback:second/only", "model/breaker_probe"}
        assert "model/fallback:second/only" in rules
        other.stop()
        wait_until(lambda: calls.models().models[1].ready_replicas == 0, "the fallback is down")
        rules = {calls.route("first").receipt.rule for _ in range(4)}
        assert rules <= {"model/breaker_bypass", "model/breaker_probe"}
        assert "model/breaker_bypass" in rules
