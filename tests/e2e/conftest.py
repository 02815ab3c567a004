from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import openai
import pytest

from tests.mesh_process import MeshProcess

Sdk = Callable[..., openai.OpenAI]


@pytest.fixture
def sdk(mesh: MeshProcess) -> Iterator[Sdk]:
    """Makes a client of OpenAI's SDK for a user whom nobody else is."""
    made: list[openai.OpenAI] = []

    def make(*, tier: str = "enterprise", key: str = "") -> openai.OpenAI:
        client = openai.OpenAI(
            base_url=f"{mesh.url}/v1",
            api_key=key or mesh.token(user=f"user-{uuid.uuid4()}", tier=tier),
            max_retries=0,
            timeout=60,
        )
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()
