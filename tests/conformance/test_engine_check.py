"""`chatmesh engine check` passes models that are sound, whatever their entries say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.inference import engine_check
from services.inference.engine_subject import entry_to_check
from services.runtime.model_registry import ModelEntry, ModelRegistry
from tests.conformance.llama_http import KEY, NAME, LlamaHttp

FILE = Path(__file__).parents[2] / "services" / "router" / "models.synthetic.yaml"
VARIABLE = "TEST_ENGINE_CHECK_KEY"
CONTEXT = 2304
"""More than a model that is checked has where the check can choose."""


def _report(out: str) -> dict[str, tuple[str, str]]:
    rows = [line.split(maxsplit=2) for line in out.splitlines() if line.startswith("  ")]
    return {row[1]: (row[0], row[2]) for row in rows if row[0] in ("passed", "FAILED", "skipped")}


def _check(folder: Path, entry: dict[str, Any], *cases: str) -> int:
    file = folder / "models.yaml"
    file.write_text(yaml.safe_dump({"models": [entry]}))
    return engine_check.main(["--models", str(file), *(word for case in cases for word in ("--case", case))])


@pytest.mark.parametrize("model", [e.name for e in ModelRegistry.load(FILE).models if e.engine == "synthetic"])
def test_every_synthetic_model_of_the_file(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert engine_check.main(["--models", str(FILE), "--model", model]) == 0
    report = _report(capsys.readouterr().out)
    assert [name for name, (outcome, _) in report.items() if outcome == "FAILED"] == []
    assert report["max_output_tokens"][0] == "passed"


def test_a_synthetic_model_is_checked_without_its_pace_and_its_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {
        "tokens_per_second": 0.1,
        "time_to_first_token_ms": 60_000,
        "prefill_tokens_per_second": 1,
        "answer": "No.",
        "kv_cache_tokens": 1,
    }
    entry = {"name": "slow", "engine": "synthetic", "context_length": 512, "max_output_tokens": 10, "slots": 1}
    assert _check(tmp_path, entry | {"engine_options": options}) == 0
    assert " 0 failed" in capsys.readouterr().out


def test_options_that_the_check_replaces_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = {"name": "wrong", "engine": "synthetic", "context_length": 512, "max_output_tokens": 100}
    assert _check(tmp_path, entry | {"engine_options": {"answer_tokens": 0, "pace": 3}}) == 2
    out = capsys.readouterr().out
    assert "model wrong, engine_options: " in out
    assert "answer_tokens: " in out
    assert "pace: there is no such key; is it misspelt?" in out


def test_a_context_is_made_small_only_where_the_engine_keeps_to_it() -> None:
    large = {"name": "large", "path": "x", "context_length": 32_768, "max_output_tokens": 8_192, "slots": 64}
    here = entry_to_check(ModelEntry.model_validate(large | {"engine": "llama_cpp"}))
    there = entry_to_check(ModelEntry.model_validate(large | {"engine": "openai"}))
    assert (here.context_length, here.max_output_tokens, here.slots) == (2_048, 128, 16)
    assert (there.context_length, there.max_output_tokens, there.slots) == (32_768, 128, 16)


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    with LlamaHttp(context_length=CONTEXT) as server:
        yield server.base_url


@pytest.fixture
def entry(base_url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv(VARIABLE, KEY)
    return {
        "name": "there",
        "engine": "openai",
        "context_length": CONTEXT,
        "max_output_tokens": 1024,
        "slots": 4,
        "capabilities": ["chat", "json", "logprobs", "logit_bias", "penalties"],
        "engine_options": {"base_url": base_url, "model": NAME, "api_key_env": VARIABLE, "send_stops": False},
    }


def test_a_server_that_can_all(entry: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry["engine_options"] |= {"continuation": "prefill", "tokenizer": "server", "chunk_counts": "llama_cpp"}
    cases = ("context_length", "bias_forces", "bias_bans", "continue_text", "answer_count", "max_output_continued")
    assert _check(tmp_path, entry, *cases, "context_is_filled") == 0
    report = _report(capsys.readouterr().out)
    assert {name: report[name][0] for name in cases} == dict.fromkeys(cases, "passed")
    assert report["context_is_filled"][0] == "skipped"
    assert f"{CONTEXT} tokens" in report["context_is_filled"][1]


def test_a_server_of_which_little_is_said(
    entry: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left_out = {
        "bias_forces": "no id of a token is known here",
        "bias_bans": "no id of a token is known here",
        "continue_tokens": "this entry does not continue answers",
        "continue_text": "this entry does not continue answers",
        "continue_anywhere": "this entry does not continue answers",
        "continue_stops": "this entry does not continue answers",
        "continue_logprobs": "this entry does not continue answers",
        "max_output_continued": "this entry does not continue answers",
        "answer_count": "tokens are estimated",
    }
    passed = ("context_length", "nothing_to_continue", "prompt_bound", "cached_tokens")
    assert _check(tmp_path, entry, *left_out, *passed) == 0
    report = _report(capsys.readouterr().out)
    assert {name: report[name][0] for name in passed} == dict.fromkeys(passed, "passed")
    for name, why in left_out.items():
        outcome, reason = report[name]
        assert outcome == "skipped"
        assert reason.startswith(why)


def test_a_server_with_a_longer_context_than_the_entry_says(
    entry: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _check(tmp_path, entry | {"context_length": 256, "max_output_tokens": 100}, "context_length") == 1
    outcome, reason = _report(capsys.readouterr().out)["context_length"]
    assert outcome == "FAILED"
    assert "let both say the same" in reason


def test_a_server_that_wants_a_key(entry: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    del entry["engine_options"]["api_key_env"]
    assert _check(tmp_path, entry) == 2
    assert "its server wants a key (HTTP 401): set api_key_env" in capsys.readouterr().out
