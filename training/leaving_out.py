"""Trainings that leave groups of sets out, and the scores of what they left out; and the training of all."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray

from services.moderation.classifier.artefact import CATEGORIES, HEADS
from services.moderation.classifier.pieces import PIECE, cut
from services.moderation.segments import stretches
from services.runtime.model_file import find_model_file
from services.runtime.sentence_encoder_graph import BertShape
from training.encoder import EncoderTrainer, Plan, Trained
from training.linear import Floats, fit_categories, fit_heads, to_matrix
from training.rows import Example, fold_of
from training.scores import ENCODER, Parts, score
from training.scores import Floats as ScoreRows

_log = logging.getLogger(__name__)

_SEGMENT = 300
"""Code points of a segment of a streamed answer, as the gate cuts them."""
_INPUT_HEADS, _OUTPUT_HEADS = (0, 1), (2,)
_FIRST_ROWS = 9_000
"""Rows from which the heads are fitted that training begins with."""
_SHAPE = BertShape(layers=6, heads=12, width=384, epsilon=1e-12)


class Trainings:
    """All trainings of one run. What each found is kept in a folder, so that a run that was stopped goes on there."""

    def __init__(self, examples: Sequence[Example], *, seed: int, plan: Plan, folder: Path) -> None:
        self._examples = examples
        self._seed = seed
        self._plan = plan
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._trainer = EncoderTrainer(find_model_file(ENCODER, model="of the classifier"), _SHAPE)
        self._sample: list[int] = []
        self._vectors: Floats | None = None

    def parts(self, fold: int | None) -> Parts:
        """What is trained when a fold's sets are left out; None: none is."""
        name = "all" if fold is None else f"fold-{fold}"
        file = self._folder / f"{name}.npz"
        if file.exists():
            return _loaded(file)
        left_out = set() if fold is None else {e.cluster for e in self._examples if fold_of(e) == fold}
        places = [
            at
            for at, example in enumerate(self._examples)
            if example.part == "train"
            and (fold is None or fold_of(example) != fold)
            and example.cluster not in left_out
        ]
        chosen = [self._examples[at] for at in places]
        _log.info("%s: training on %d rows", name, len(chosen))
        linear, bias = self._fit_linear(chosen)
        first, vectors = self._first_vectors(set(places))
        rows, biases = fit_heads(vectors, first, hashed=False)
        names, name_biases = fit_categories(vectors, first)
        head, head_bias = np.concatenate([rows, names]), np.concatenate([biases, name_biases])
        trained = Trained({}, head, head_bias)
        if self._plan.epochs > 0:
            trained = self._trainer.train(
                chosen, head=head, head_bias=head_bias, plan=self._plan, seed=self._seed, name=name
            )
        found = Parts(linear, bias, trained, self._plan.scale)
        np.savez(
            file,
            linear=linear,
            linear_bias=bias,
            head=trained.head,
            head_bias=trained.head_bias,
            scale=found.scale,
            **trained.changes,  # type: ignore[arg-type]
        )
        return found

    def scores(self, fold: int | None, places: Sequence[int]) -> ScoreRows:
        """Raw scores of rows by one training, each in its own direction."""
        file = self._folder / f"scores-{'all' if fold is None else fold}.npz"
        if file.exists():
            with np.load(file) as kept:
                if np.array_equal(kept["places"], np.array(places)):
                    return np.asarray(kept["scores"])
        parts = self.parts(fold)
        found = np.zeros((len(places), 3 * len(HEADS) + len(CATEGORIES)))
        for kind, heads in (("input", _INPUT_HEADS), ("output", _OUTPUT_HEADS)):
            rows = [row for row, at in enumerate(places) if self._examples[at].kind == kind]
            if rows:
                texts = [self._examples[places[row]].text for row in rows]
                found[rows] = score(parts, texts, heads=heads, name=f"{file.stem}, {kind}")
        np.savez(file, places=np.array(places), scores=found)
        return found

    def look_scores(self, fold: int, places: Sequence[int]) -> tuple[ScoreRows, NDArray[np.intp]]:
        """Raw scores of the looks at answers, and to which place each belongs."""
        file = self._folder / f"looks-{fold}.npz"
        if file.exists():
            with np.load(file) as kept:
                if np.array_equal(kept["places"], np.array(places)):
                    return np.asarray(kept["scores"]), np.asarray(kept["owners"])
        owners, texts = [], []
        for at in places:
            text = self._examples[at].text
            for stretch in stretches(text, _SEGMENT):
                owners.append(at)
                texts.append(text[stretch.start : stretch.end])
        found = score(self.parts(fold), texts, heads=_OUTPUT_HEADS, name=file.stem)
        np.savez(file, places=np.array(places), scores=found, owners=np.array(owners))
        return found, np.array(owners)

    def _fit_linear(self, chosen: Sequence[Example]) -> tuple[Floats, Floats]:
        pieces, owners, shares = [], [], []
        for example in chosen:
            found = cut(example.text)
            found = found if len(found) <= 3 else [found[0], found[len(found) // 2], found[-1]]
            pieces += found
            owners += [example] * len(found)
            shares += [1 / len(found)] * len(found)
        return fit_heads(to_matrix(pieces), owners, hashed=True, share=np.array(shares, dtype=np.float32))

    def _first_vectors(self, places: set[int]) -> tuple[list[Example], Floats]:
        """Some of these rows, and the vectors of their beginnings by the encoder as it came."""
        if self._vectors is None:
            random = Random(self._seed)
            some = [at for at, example in enumerate(self._examples) if example.part == "train"]
            random.shuffle(some)
            self._sample = sorted(some[:_FIRST_ROWS])
            file = self._folder / "vectors.npz"
            if file.exists():
                with np.load(file) as kept:
                    self._vectors = np.asarray(kept["vectors"])
            else:
                _log.info("vectors of %d rows", len(self._sample))
                self._vectors = self._trainer.vectors([self._examples[at].text[:PIECE] for at in self._sample])
                np.savez(file, vectors=self._vectors)
        kept_rows = [row for row, at in enumerate(self._sample) if at in places]
        return [self._examples[self._sample[row]] for row in kept_rows], self._vectors[kept_rows]


def _loaded(file: Path) -> Parts:
    with np.load(file) as kept:
        tensors = {name: np.asarray(kept[name]) for name in kept.files}
    fixed = {name: tensors.pop(name) for name in ("linear", "linear_bias", "head", "head_bias", "scale")}
    trained = Trained(tensors, fixed["head"], fixed["head_bias"])
    return Parts(fixed["linear"], fixed["linear_bias"], trained, float(fixed["scale"]))
