"""How many processes a service has, and what each of them is told."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from services.cli.errors import CliError
from services.cli.home import Home
from services.cli.keys import SigningKey
from services.cli.mesh import DEFAULT_MODELS_FILE, Places, Stores, edge_config, mesh_specs
from services.cli.ports import free_ports
from services.cli.privileges import launcher
from services.cli.process import ProcessSpec
from services.cli.replicas import parse_replicas, shares_of_cores
from services.cli.settings import CliSettings
from services.runtime.model_registry import ModelRegistry


@pytest.mark.parametrize(
    ("text", "more"),
    [
        ("", {}),
        (" , ", {}),
        ("conversation=2", {"conversation": 2}),
        (" conversation = 2 , inference=8 ", {"conversation": 2, "inference": 8}),
        ("usage=1", {}),
    ],
)
def test_every_service_has_one_process_unless_told_otherwise(text: str, more: dict[str, int]) -> None:
    counts = parse_replicas(text)

    assert {name: count for name, count in counts.items() if count > 1} == more
    assert set(counts) == {"usage", "moderation", "context", "router", "inference", "conversation"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("router=2", "router can have one process only.* conversation and inference .*proven"),
        ("envoy=2", "no service 'envoy'; the services are usage, "),
        ("conversation", "conversation is to have ''"),
        ("conversation=two", "'two'"),
        ("conversation=0", "1 to 8"),
        ("conversation=9", "1 to 8"),
        ("conversation=-1", "1 to 8"),
        ("conversation=²", "1 to 8"),
        ("conversation=2,conversation=3", "twice"),
    ],
)
def test_what_makes_no_sense_is_named(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(CliError, match=f"CHATMESH_REPLICAS.*{said}") as caught:
        CliSettings.from_environment({"CHATMESH_REPLICAS": text}, folder=tmp_path)
    assert caught.value.exit_code == 2


def _specs(text: str, home: Home, **environment: str) -> tuple[Sequence[str], dict[str, ProcessSpec]]:
    """The edge's Conversation addresses and the processes of a mesh, by name."""
    home.prepare()
    counts = parse_replicas(text)
    places = Places.from_ports(free_ports(Places.ports_needed(counts), draw=random.Random()), replicas=counts)
    key = SigningKey(home.keys)
    key.ensure()
    edge = edge_config(
        port=1,
        admin="unix:/admin",
        places=places,
        jwks_file=key.jwks_file,
        otlp="",
        identity_provider=None,
        cors_origins=(),
    )
    specs = mesh_specs(
        home=home,
        places=places,
        stores=Stores(database_url="postgresql://db", redis_url="redis://r", embedded=()),
        models_file=DEFAULT_MODELS_FILE,
        models=ModelRegistry.load(DEFAULT_MODELS_FILE),
        edge=edge,
        edge_file=home.run / "envoy.yaml",
        environment={"CHATMESH_REPLICAS": text, "CHATMESH_REPLICA_ID": "mine", **environment},
    )
    return edge.conversation, {spec.name: spec for spec in specs}


def test_each_replica_has_a_name_ports_a_log_and_an_id_of_its_own(tmp_path: Path) -> None:
    conversation, specs = _specs("conversation=2,inference=3", Home(tmp_path))

    assert set(specs) == {
        *("usage", "moderation", "context", "router", "envoy", "conversation", "conversation-2"),
        *("inference", "inference-2", "inference-3"),
    }
    services = [spec for name, spec in specs.items() if name != "envoy"]
    for told in ("CHATMESH_LISTEN", "CHATMESH_METRICS_LISTEN", "CHATMESH_REPLICA_ID"):
        assert len({spec.environment[told] for spec in services}) == len(services)
    assert len({spec.log for spec in specs.values()}) == len(specs)
    first, second = (specs[name].environment["CHATMESH_REPLICA_ID"] for name in ("conversation", "conversation-2"))
    assert first.replace("conversation-", "conversation-2-") == second
    assert all("CHATMESH_REPLICAS" not in spec.environment for spec in specs.values())
    assert specs["conversation-2"].environment["CHATMESH_REDIS_URL"] == "redis://r"
    assert conversation == (specs["conversation"].address, specs["conversation-2"].address)
    assert specs["router"].environment["CHATMESH_INFERENCE_ADDRESSES"].split(",") == [
        specs[name].address for name in ("inference", "inference-2", "inference-3")
    ]


def test_replicas_of_inference_may_stand_in_places_of_their_own(tmp_path: Path) -> None:
    lists = {
        "CHATMESH_INFERENCE_POOLS": "fast, slow",
        "CHATMESH_INFERENCE_ZONES": ",b",
        "CHATMESH_ZONE": "a",
        "CHATMESH_REGION": "eu",
    }
    _, specs = _specs("conversation=2,inference=3", Home(tmp_path), **lists)

    def told(name: str) -> list[str | None]:
        return [specs[name].environment.get(f"CHATMESH_{key}") for key in ("POOL", "ZONE", "REGION")]

    # The last name goes for those after it; where none stands, all processes are told the same.
    assert told("inference") == ["fast", "a", "eu"]
    assert told("inference-2") == told("inference-3") == ["slow", "b", "eu"]
    assert told("conversation") == told("conversation-2") == told("router") == [None, "a", "eu"]
    assert not any("CHATMESH_INFERENCE_POOLS" in spec.environment for spec in specs.values())


def test_more_places_than_replicas_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CliError, match=r"CHATMESH_INFERENCE_REGIONS names 3, and inference has 2 .*inference=3"):
        _specs("inference=2", Home(tmp_path), CHATMESH_INFERENCE_REGIONS="a,b,c")


@pytest.mark.parametrize(
    ("cores", "count", "shares"),
    [
        ([0, 1, 2, 3], 1, [()]),
        # The engine leaves one core of two: a thread each, wherever the system puts them.
        ([0, 1], 2, [(), ()]),
        ([4, 5, 6, 7], 2, [(4, 5), (6, 7)]),
        (range(8), 2, [(0, 1, 2, 3), (4, 5, 6, 7)]),
        ([0, 1, 2], 2, [(0, 1), (1, 2)]),
        (range(4), 8, [(0, 1), (0, 1), (1, 2), (1, 2), (2, 3), (2, 3), (0, 3), (0, 3)]),
        ([], 2, [(), ()]),
    ],
)
def test_replicas_of_an_engine_share_the_cores(cores: Sequence[int], count: int, shares: list[tuple[int, ...]]) -> None:
    assert list(shares_of_cores(cores, count)) == shares


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux binds a process to cores")
def test_a_child_gets_the_cores_that_it_is_given() -> None:
    core = max(os.sched_getaffinity(0))
    ask = "import os; print(*os.sched_getaffinity(0))"

    done = subprocess.run([*launcher(9, cores=(core,)), sys.executable, "-c", ask], capture_output=True, check=True)

    assert done.stdout.split() == [str(core).encode()]
