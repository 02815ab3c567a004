"""What operators are shown: models, the fleet, experiments."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmesh.conversation.v1 import experiment_service_pb2
from chatmesh.inference.v1 import status_pb2
from chatmesh.router.v1 import fleet_pb2, model_pb2, router_service_pb2
from services.cli import experiments, fleet, models
from services.cli.errors import CliError
from services.cli.home import Home
from services.cli.inside import find_process
from services.cli.remote import ModelInfo
from services.cli.settings import CliSettings

LISTED = router_service_pb2.ListModelsResponse(
    models=[
        model_pb2.Model(
            name="small",
            engine="llama_cpp",
            context_length=2048,
            ready_replicas=2,
            capabilities=[status_pb2.CAPABILITY_CHAT, status_pb2.CAPABILITY_JSON],
            prices=model_pb2.Prices(input_per_million=0.5, cached_input_per_million=0.25, output_per_million=1.5),
        ),
        model_pb2.Model(name="large", engine="tensorrt_llm", context_length=131072, tiers=["pro"], pools=["h100"]),
    ],
    aliases=[model_pb2.ModelAlias(name="auto", models=["small", "large"])],
)


def test_models_as_a_table_and_for_programs() -> None:
    rows = [line.split() for line in models.render_models(LISTED).splitlines()]
    assert rows[1] == ["small", "2", "llama_cpp", "2048", "0.5", "0.25", "1.5", "chat,json", "all", "any"]
    assert rows[2] == ["large", "0", "tensorrt_llm", "131072", "-", "-", "-", "-", "pro", "h100"]
    assert rows[4] == ["auto", "2", "small,", "large"]
    told = json.loads(models.render_json(LISTED))
    assert [model["name"] for model in told["models"]] == ["small", "large"]
    assert told["models"][1]["ready_replicas"] == 0
    assert told["refused_file"] == ""
    assert [line.split() for line in models.render_names([ModelInfo("m")]).splitlines()][1] == ["m", "-"]


def test_a_models_file_that_is_not_in_force_is_told_with_what_is() -> None:
    assert "in force" not in models.render_models(LISTED)
    for aliases in (tuple(LISTED.aliases), ()):
        refused = router_service_pb2.ListModelsResponse(
            models=LISTED.models, aliases=aliases, refused_file="models file m.yaml: wrong"
        )
        *before, last = models.render_models(refused).splitlines()
        assert last == "refused, so what was read before stays in force: models file m.yaml: wrong"
        assert before[1].startswith("small")
        assert json.loads(models.render_json(refused))["refused_file"] == "models file m.yaml: wrong"


FLEET = fleet_pb2.WatchFleetResponse(
    replicas=[
        fleet_pb2.FleetReplica(
            replica_id="r1",
            pool="h100",
            zone="eu-1a",
            region="eu-1",
            silent_ms=200,
            models=[
                fleet_pb2.FleetModel(
                    loaded=status_pb2.LoadedModel(
                        name="large",
                        running=3,
                        slots=8,
                        queued=1,
                        tokens_per_second=512.4,
                        time_to_first_token_ms=41.7,
                        kv_cache_usage=0.5,
                        kv_cache_hit_rate=0.75,
                    ),
                    leased=2,
                    score=63.2,
                    breaker=fleet_pb2.BREAKER_STATE_CLOSED,
                )
            ],
        ),
        fleet_pb2.FleetReplica(
            replica_id="r2",
            draining=True,
            silent_ms=2400,
            models=[
                fleet_pb2.FleetModel(
                    loaded=status_pb2.LoadedModel(name="small", slots=4), breaker=fleet_pb2.BREAKER_STATE_OPEN
                )
            ],
        ),
        fleet_pb2.FleetReplica(replica_id="r3"),
    ]
)


def test_the_fleet_as_a_table_and_for_programs() -> None:
    rows = [line.split() for line in fleet.render_fleet(FLEET).splitlines()]
    where = ["r1", "h100", "eu-1a", "eu-1", "large"]
    assert rows[1] == [*where, "3/8", "1", "2", "512", "42ms", "50%", "75%", "63ms", "closed"]
    assert rows[2][4:8] == ["small", "0/4", "0", "0"]
    assert rows[2][-5:] == ["OPEN", "draining,", "silent", "for", "2.4s"]
    assert rows[3] == ["r3", *["-"] * 13]
    assert fleet.render_fleet(fleet_pb2.WatchFleetResponse()) == "no replica reports to the router"
    told = json.loads(fleet.render_json(FLEET))
    assert told["replicas"][0]["models"][0]["breaker"] == "BREAKER_STATE_CLOSED"


def test_a_view_is_drawn_over_the_last_one_and_never_scrolls() -> None:
    out = io.StringIO()
    fleet.draw("\n".join(f"line {number}" for number in range(10)), out=out, rows=5)
    drawn = out.getvalue()
    assert drawn.startswith("\x1b[H")
    assert drawn.endswith("\x1b[J")
    assert drawn.count("\n") == 4
    assert "line 2" in drawn
    assert "line 3" not in drawn
    assert "... and 7 more lines" in drawn


def test_an_experiment_as_a_table_and_for_programs() -> None:
    results = experiment_service_pb2.GetExperimentResultsResponse(
        arms=[
            experiment_service_pb2.ArmResult(
                arm="control",
                users=10,
                generations=40,
                failed=1,
                rated=8,
                rated_up=6,
                first_token_p50_ms=120,
                first_token_p99_ms=900,
                duration_p50_ms=2500,
                duration_p99_ms=12_000,
                completion_tokens=81.4,
                cost_nano_usd=250_000,
            ),
            experiment_service_pb2.ArmResult(arm="strong"),
        ]
    )
    rows = [line.split("  ") for line in experiments.render_results(results, name="x").splitlines()]
    cells = [cell.strip() for cell in rows[1] if cell.strip()]
    assert cells == ["control", "10", "40", "1", "8", "75% (41%-93%)", "120ms / 900ms", "2500ms / 12.0s", "81", "0.25"]
    assert "-" in rows[2]
    assert json.loads(experiments.render_json(results))["arms"][0]["arm"] == "control"
    empty = experiment_service_pb2.GetExperimentResultsResponse()
    assert experiments.render_results(empty, name="x") == (
        "no answer was given in an arm of x; if there should be some, check the name in the models file"
    )


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_the_interval_holds_the_share_and_stays_in_its_bounds(one: int, other: int) -> None:
    part, whole = min(one, other), max(one, other)
    low, high = experiments.share_within(part, whole)
    assert 0 <= low <= high <= 1
    if whole:
        assert low - 1e-9 <= part / whole <= high + 1e-9


def test_where_a_process_is_found(tmp_path: Path) -> None:
    settings = CliSettings(home=Home(tmp_path))
    assert find_process(settings, service="router", given="host:1") == "host:1"
    with pytest.raises(CliError, match=r"no mesh runs in .*; start one with `chatmesh up`, .*--router HOST:PORT"):
        find_process(settings, service="router", given="")
    elsewhere = CliSettings(home=Home(tmp_path), url="https://chat.example")
    with pytest.raises(CliError, match="say where its conversation is: --conversation HOST:PORT"):
        find_process(elsewhere, service="conversation", given="")


def test_a_duration_that_makes_no_sense_is_refused_by_name() -> None:
    settings = CliSettings(home=Home(Path("/nowhere")))
    for since in ("yesterday", "9999999999999d"):
        with pytest.raises(CliError, match="--since"):
            experiments.show_experiment(settings, name="x", since=since, conversation="127.0.0.1:1", as_json=False)
