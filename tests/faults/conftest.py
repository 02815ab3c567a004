"""One mesh for a module of fault tests: two replicas of what runs a turn and of what generates."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.breakage import all_serve
from tests.faults.client import Client
from tests.mesh_process import MeshProcess, running_mesh

MODELS = Path(__file__).parent / "models.yaml"
STALL_S = 2


@pytest.fixture(scope="module")
def mesh_to_break() -> Iterator[MeshProcess]:
    """A mesh whose processes may be killed; an engine that says nothing for `STALL_S` is given up."""
    extra = {"CHATMESH_REPLICAS": "conversation=2,inference=2", "CHATMESH_STALL_TIMEOUT_S": str(STALL_S)}
    with running_mesh(models=MODELS, extra=extra) as mesh:
        yield mesh


@pytest.fixture(scope="module")
def client(mesh_to_break: MeshProcess) -> Iterator[Client]:
    """Somebody who resumes."""
    with Client(mesh_to_break) as client:
        yield client


@pytest.fixture(scope="module")
def patient(mesh_to_break: MeshProcess) -> Iterator[Client]:
    """Somebody who stays connected however long nothing comes."""
    with Client(mesh_to_break, silence_s=30.0) as client:
        yield client


@pytest.fixture(scope="module")
def undisturbed(mesh_to_break: MeshProcess) -> Iterator[Callable[[str], str]]:
    """The whole answer to a question, as it is when nothing happens."""
    known: dict[str, str] = {}
    with Client(mesh_to_break, model="fast") as client:

        def ask(question: str) -> str:
            if question not in known:
                answer = client.ask(question)
                assert answer.connections == 1
                known[question] = answer.text
            return known[question]

        yield ask


@pytest.fixture
def chance(mesh_to_break: MeshProcess) -> random.Random:
    """Where in its stream each answer is hit. A seed that found something comes again by FAULTS_SEED."""
    all_serve(mesh_to_break)
    seed = int(os.environ.get("FAULTS_SEED") or random.SystemRandom().getrandbits(32))
    # Shown with the output of a test that fails.
    sys.stdout.write(f"FAULTS_SEED={seed}\n")
    return random.Random(seed)
