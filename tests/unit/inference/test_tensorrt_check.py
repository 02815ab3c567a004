"""`chatmesh engine check`: what it prints and how it exits."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from services.inference import engine_check
from services.inference.engines.tensorrt_llm import contract
from services.inference.engines.tensorrt_llm.engine import TensorRtLlmEngine
from services.inference.engines.tensorrt_llm.options import TensorRtLlmOptions
from services.runtime.model_registry import ModelRegistry
from tests.doubles.tensorrt_llm.installed import FOLDER, installed

_MODELS = """
models:
  - name: large
    engine: tensorrt_llm
    path: double/qwen
    context_length: 131072
    max_output_tokens: 8192
    slots: 64
    pools: [h100]
    engine_options: {tool_parser: hermes, tensor_parallel_size: 2, kv_cache: {dtype: fp8}}
  - name: failing
    engine: synthetic
    context_length: 512
    max_output_tokens: 200
    engine_options: {tokens_per_second: 0, fail_after_tokens: 2}
pools:
  h100: {}
"""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    file = tmp_path / "models.yaml"
    file.write_text(_MODELS)
    return file


def _chatmesh(models: Path, *arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CHATMESH_")}
    environment["PYTHONPATH"] = path
    return subprocess.run(
        [sys.executable, "-m", "services.cli", "engine", "check", "--models", str(models), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_finds_the_library(models: Path) -> None:
    done = _chatmesh(models, "--model", "large", "--case", "one_end", "--case", "embed_unit", path=str(FOLDER))
    assert done.returncode == 0, done.stdout + done.stderr
    first, version, names, passed, skipped, summary = done.stdout.splitlines()
    assert first == "large (tensorrt_llm)"
    assert version.split() == ["TensorRT-LLM", "1.2.1"]
    assert names.split()[:2] == ["passed", "contract"]
    assert passed.split()[:2] == ["passed", "one_end"]
    assert "the engine has no embeddings" in skipped
    assert summary.strip() == "1 passed, 0 failed, 1 skipped"


def test_the_command_says_where_the_library_is(models: Path) -> None:
    done = _chatmesh(models, "--model", "large")
    assert done.returncode == 2
    assert "TensorRT-LLM is not installed here" in done.stdout
    assert contract.IMAGE in done.stdout


def test_an_engine_that_does_not_conform_fails(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert engine_check.main(["--models", str(models), "--model", "failing", "--case", "one_end"]) == 1
    out = capsys.readouterr().out
    assert "FAILED   one_end" in out
    assert "0 passed, 1 failed, 0 skipped" in out


def test_another_library_fails(
    models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with installed():
        library = contract.load_modules()["tensorrt_llm"]
        monkeypatch.setattr(library, "__version__", "1.4.0rc1")
        monkeypatch.setattr(library.LLM, "get_stats_async", None)
        assert engine_check.main(["--models", str(models), "--model", "large"]) == 1
    out = capsys.readouterr().out
    assert "the engine was made for 1.2" in out
    assert "there is no tensorrt_llm.LLM.get_stats_async" in out
    assert "one_end" not in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "nobody"], "--model names 'nobody', which the models file lacks; it has failing, large"),
        (["--case", "nothing"], "--case: there is no case nothing"),
        (["--models", "/nowhere/models.yaml"], "cannot be read"),
    ],
)
def test_what_cannot_be_checked(
    models: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert engine_check.main(["--models", str(models), *arguments]) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert "CHATMESH_INFERENCE_MODELS" not in said.err
    assert not said.out


def test_the_guide_shows_a_model_that_can_be_loaded_and_every_option() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "tensorrt-llm.md").read_text()
    (file,) = re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)
    (entry,) = ModelRegistry.parse(file, origin=Path("guide")).models
    TensorRtLlmEngine(entry)
    explained = set(re.findall(r"`(\w+)", "\n".join(line for line in guide.splitlines() if line.startswith("|"))))
    assert set(TensorRtLlmOptions.model_fields) <= explained | {"kv_cache", "cuda_graph"}
    assert contract.IMAGE in guide
