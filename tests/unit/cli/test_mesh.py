"""What is checked of the models file before a mesh is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.cli.errors import CliError
from services.cli.mesh import DEFAULT_MODELS_FILE, check_first_chat
from services.runtime.model_registry import ModelRegistry

MODELS = """
models:
  - {name: embedder, engine: synthetic, context_length: 512, max_output_tokens: 1, capabilities: [embeddings]}
  - {name: dear, engine: synthetic, context_length: 512, max_output_tokens: 64, tiers: [pro]}
  - {name: small, engine: synthetic, context_length: 512, max_output_tokens: 64}
"""


def check(text: str) -> None:
    path = Path("models.yaml")
    check_first_chat(ModelRegistry.parse(text, origin=path), path=path)


@pytest.mark.parametrize(
    "text",
    [
        MODELS + "aliases: {auto: [dear, small]}",
        MODELS + "auto: {auto: {models: [dear, small]}}",
        MODELS.replace("small", "auto"),
        DEFAULT_MODELS_FILE.read_text(),
    ],
)
def test_a_name_for_requests_without_a_model_is_enough(text: str) -> None:
    check(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (MODELS, r"models file models.yaml: nothing is called 'auto'.*; add `aliases: \{auto: \[small\]\}`"),
        (MODELS + "aliases: {other: [small]}", r"add `aliases: \{auto: \[small\]\}`"),
        (MODELS + "aliases: {auto: [dear]}", "'auto' stands for no model that .* 'free'.* such as small"),
        (MODELS + "aliases: {auto: [embedder]}", "'auto' stands for no model that answers"),
        (MODELS.partition("  - {name: small")[0], "it has no model that answers users of the tier 'free'"),
    ],
)
def test_what_would_start_for_nothing_is_refused_with_what_to_add(text: str, said: str) -> None:
    with pytest.raises(CliError, match=said):
        check(text)
