"""Files of a trained classifier: what is refused, and with what words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from services.moderation.classifier import Classifier
from services.moderation.classifier.artefact import PACKAGED, Artefact
from services.runtime.safetensors_file import read_header, read_tensors, write_tensors
from services.runtime.settings import SettingsError

Document = dict[str, Any]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    file = tmp_path / "own.safetensors"
    shutil.copy(PACKAGED, file)
    shutil.copy(PACKAGED.with_suffix(".json"), file.with_suffix(".json"))
    return file


def change(model: Path, edit: Callable[[Document], object]) -> None:
    document = json.loads(model.with_suffix(".json").read_text())
    edit(document)
    model.with_suffix(".json").write_text(json.dumps(document))


def test_a_model_can_be_named(model: Path) -> None:
    assert Classifier.load(model).version == Classifier.load().version


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda document: document.update(format=99), "its format is 99"),
        (lambda document: document.pop("version"), "version"),
        (lambda document: document["heads"].pop("attack"), "no heads attack"),
        (lambda document: document.update(layers=[99]), "encoder.layer.99"),
        (lambda document: document.update(more=1), "more"),
    ],
)
def test_a_document_that_does_not_fit_is_refused(model: Path, edit: Callable[[Document], object], words: str) -> None:
    change(model, edit)
    with pytest.raises(SettingsError, match=words) as raised:
        Artefact.read(model)
    assert "make train" in str(raised.value)


def test_missing_files_are_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="make train"):
        Classifier.load(tmp_path / "none.safetensors")
    model.with_suffix(".json").unlink()
    with pytest.raises(SettingsError, match="make train"):
        Classifier.load(model)


@pytest.mark.parametrize("content", [b"", b"no tensors", b"\xff" * 100, (2).to_bytes(8, "little") + b"[]"])
def test_a_file_of_another_kind_is_refused(model: Path, content: bytes) -> None:
    model.write_bytes(content)
    with pytest.raises(SettingsError, match="no trained classifier"):
        Artefact.read(model)


def test_a_file_that_was_cut_short_is_refused(model: Path) -> None:
    model.write_bytes(model.read_bytes()[:-1000])
    with pytest.raises(SettingsError, match="cut short"):
        Artefact.read(model)


def test_tensors_of_another_shape_are_refused(model: Path) -> None:
    tensors = read_tensors(model)
    tensors["linear.weight"] = tensors["linear.weight"][:, :-1]
    write_tensors(model, tensors)
    with pytest.raises(SettingsError, match="shapes"):
        Artefact.read(model)


def test_an_encoder_that_is_not_installed_is_refused_with_what_to_do(model: Path) -> None:
    change(model, lambda document: document.update(encoder="package://no_such_package/model.safetensors"))
    with pytest.raises(SettingsError, match="pip install"):
        Classifier.load(model)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = tmp_path / "some.safetensors"
    tensors: dict[str, NDArray[Any]] = {"b": np.ones((2, 3), dtype=np.float16), "a": np.arange(4, dtype=np.float32)}
    write_tensors(file, tensors)
    found = read_tensors(file)
    assert {name: tensor.tolist() for name, tensor in found.items()} == {
        "a": [0, 1, 2, 3],
        "b": [[1, 1, 1], [1, 1, 1]],
    }
    assert read_header(file)[1] % 8 == 0
    again = tmp_path / "again.safetensors"
    write_tensors(again, {"a": tensors["a"], "b": tensors["b"]})
    assert again.read_bytes() == file.read_bytes()
