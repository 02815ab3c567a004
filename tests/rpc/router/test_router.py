"""The Router on a real port, with inference replicas on real ports."""

from __future__ import annotations

import socket
import urllib.request
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict

from services.runtime.errors import Reason
from tests.rpc.router.calls import client

Wait = Callable[[Callable[[], object], str], None]
Start = Callable[..., Any]


def test_serving_while_a_replica_reports(start_router: Start, start_replica: Start, wait_until: Wait) -> None:
    replica = start_replica("r1")
    replica.stop()
    router = start_router(replica)
    with client(router) as calls:
        assert not calls.healthy()
        error = calls.refusal()
        assert error.reason is Reason.NO_REPLICA
        assert error.metadata == {"model": "small"}
        assert "no inference replica is up" in error.message
        replica.start()
        wait_until(calls.healthy, "serving once a replica reports")
        assert calls.can_route()
        replica.stop()
        wait_until(lambda: not calls.healthy(), "not serving without a replica")
        replica.start()
        wait_until(calls.healthy, "serving again when the replica is back")
    assert router.logged("replica lost")


def test_a_decision_tells_where_and_why(start_router: Start, start_replica: Start, wait_until: Wait) -> None:
    replicas = [start_replica("r1"), start_replica("r2")]
    replicas[0].report(running=2, first_token_ms=50)
    replicas[1].report(running=0, first_token_ms=50)
    with client(start_router(*replicas)) as calls:
        wait_until(lambda: calls.models().models[1].ready_replicas == 2, "both replicas report")
        response = calls.route("auto")
        assert (response.lease.replica_id, response.lease.address) == ("r2", replicas[1].address)
        assert response.lease.lease_id
        ahead = response.lease.expire_time.ToDatetime(UTC) - datetime.now(UTC)
        assert 5 < ahead.total_seconds() <= 10
        receipt = MessageToDict(response.receipt, preserving_proto_field_name=True)
        assert receipt == {
            "requested_model": "auto",
            "model": "small",
            "engine": "synthetic",
            "replica_id": "r2",
            "rule": "alias:auto/least_wait",
            "candidates": [
                {"model": "small", "replica_id": "r2", "score": 50.0},
                {"model": "small", "replica_id": "r1", "score": 75.0, "in_flight": 2},
            ],
        }
        model = response.model
        assert (model.name, model.context_length, model.max_output_tokens) == ("small", 2048, 1024)
        assert (model.default_system_prompt, model.ready_replicas) == ("Be brief.", 2)
        assert calls.route("").receipt.requested_model == "auto"


def test_a_burst_is_spread_before_any_report(start_router: Start, start_replica: Start, wait_until: Wait) -> None:
    replicas = [start_replica(f"r{number}", beat_s=60) for number in range(4)]
    with client(start_router(*replicas, status_silence_s=60)) as calls:
        wait_until(lambda: calls.models().models[1].ready_replicas == 4, "all replicas report")
        taken = Counter(calls.route().lease.replica_id for _ in range(40))
    assert taken == {f"r{number}": 10 for number in range(4)}


def test_a_conversation_stays_where_its_cache_is(start_router: Start, start_replica: Start, wait_until: Wait) -> None:
    replicas = [start_replica(f"r{number}", models={"small": 64}) for number in range(4)]
    with client(start_router(*replicas)) as calls:
        wait_until(lambda: calls.models().models[1].ready_replicas == 4, "all replicas report")
        assert len({calls.route(conversation="c1").lease.replica_id for _ in range(5)}) == 1
        assert len({calls.route(conversation=f"c{number}").lease.replica_id for number in range(40)}) == 4


def test_tiers(start_router: Start, start_replica: Start, wait_until: Wait) -> None:
    replica = start_replica("r1", models={"small": 4, "large": 4})
    with client(start_router(replica)) as calls:
        wait_until(calls.healthy, "serving")
        assert calls.route("large", tier="pro").receipt.rule == "model/only"
        assert calls.route("auto", tier="pro").receipt.model == "large"
        assert calls.route("auto", tier="free").receipt.model == "small"
        error = calls.refusal("large", tier="free")
        assert error.reason is Reason.MODEL_NOT_ALLOWED
        assert error.metadata == {"model": "large", "tier": "free", "known_models": "auto, small"}


def test_an_alias_goes_on_to_a_model_that_has_a_replica(
    start_router: Start, start_replica: Start, wait_until: Wait
) -> None:
    with client(start_router(start_replica("r1"))) as calls:
        wait_until(calls.healthy, "serving")
        assert calls.route("auto", tier="pro").receipt.model == "small"


def test_an_unknown_model_is_answered_with_the_known_ones(
    start_router: Start, start_replica: Start, wait_until: Wait
) -> None:
    with client(start_router(start_replica("r1"))) as calls:
        wait_until(calls.healthy, "serving")
        error = calls.refusal("gpt-9")
        assert error.reason is Reason.MODEL_NOT_FOUND
        assert error.metadata == {"model": "gpt-9", "known_models": "auto, small"}
        assert calls.refusal("no name").reason is Reason.INVALID_FIELD


def test_excluded_and_draining_replicas_are_left_out(
    start_router: Start, start_replica: Start, wait_until: Wait
) -> None:
    replicas = [start_replica("r1"), start_replica("r2")]
    with client(start_router(*replicas)) as calls:
        wait_until(lambda: calls.models().models[1].ready_replicas == 2, "both replicas report")
        assert {calls.route(excluded=("r1",)).lease.replica_id for _ in range(5)} == {"r2"}
        assert calls.refusal(excluded=("r1", "r2")).reason is Reason.NO_REPLICA
        replicas[1].report(draining=True)
        wait_until(lambda: calls.models().models[1].ready_replicas == 1, "one replica drains")
        assert {calls.route().lease.replica_id for _ in range(5)} == {"r1"}


def test_a_silent_replica_is_gone_until_it_speaks(start_router: Start, start_replica: Start, wait_until: Wait) -> None:
    replica = start_replica("r1")
    router = start_router(replica, status_silence_s=1)
    with client(router) as calls:
        wait_until(calls.healthy, "serving")
        replica.silent = True
        wait_until(lambda: router.logged("replica lost"), "the silence is noticed")
        assert router.logged("replica lost")[0]["why"] == "silent for 1 s"
        replica.silent = False
        wait_until(calls.can_route, "the replica is used again")


def test_the_registry_follows_its_file(
    start_router: Start, start_replica: Start, wait_until: Wait, models_file: Path
) -> None:
    good = models_file.read_text()
    router = start_router(start_replica("r1"))
    with client(router) as calls:
        wait_until(calls.healthy, "serving")
        assert [model.name for model in calls.models().models] == ["large", "small"]
        assert [alias.name for alias in calls.models().aliases] == ["auto"]
        models_file.write_text(good.replace("auto:", "best:"))
        wait_until(lambda: [alias.name for alias in calls.models().aliases] == ["best"], "the new file is in force")
        models_file.write_text(good.replace("auto: [large", "auto: [huge"))
        wait_until(lambda: any(line["level"] == "error" for line in list(router.lines)), "the bad file is refused")
        refusal = next(line for line in router.lines if line["level"] == "error")
        assert "alias 'auto' stands for huge" in str(refusal["problem"])
        assert [alias.name for alias in calls.models().aliases] == ["best"]
        models_file.unlink()
        models_file.write_text(good)
        wait_until(lambda: calls.can_route("auto"), "the repaired file is in force")


def test_decisions_are_counted(start_router: Start, start_replica: Start, wait_until: Wait) -> None:
    router = start_router(start_replica("r1"))
    with client(router) as calls:
        wait_until(calls.healthy, "serving")
        calls.route("auto")
        calls.refusal("gpt-9")
        with urllib.request.urlopen(f"http://{router.listening('metrics_address')}/metrics") as page:
            metrics = page.read().decode()
    assert 'chatmesh_router_decisions_total{model="small",otel_scope_name="chatmesh"' in metrics
    assert 'rule="alias:auto/only"' in metrics
    assert 'reason="MODEL_NOT_FOUND"' in metrics
    assert "chatmesh_router_decision_duration_seconds_count" in metrics
    assert "gpt-9" not in metrics


def test_settings_that_cannot_be_used_are_named(
    start_router: Start, start_replica: Start, models_file: Path, tmp_path: Path
) -> None:
    replica = start_replica("r1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        cases = {
            "name at least one inference replica": start_router(arguments=("--check-config",)),
            "cannot be read": start_router(replica, arguments=("--check-config",), models_file=tmp_path / "none"),
            "is the port taken?": start_router(replica, listen=f"127.0.0.1:{taken.getsockname()[1]}"),
        }
        for said, router in cases.items():
            assert router.wait() == 2
            assert said in "".join(router.text)
            assert "Traceback" not in "".join(router.text)
    assert start_router(replica, arguments=("--check-config",)).wait() == 0


def test_it_stops_when_told(start_router: Start, start_replica: Start, wait_until: Wait) -> None:
    replica = start_replica("r1")
    router = start_router(replica)
    with client(router) as calls:
        wait_until(calls.healthy, "serving")
    assert router.stop() == 0
    wait_until(lambda: replica.watchers == 0, "its watch is closed")
