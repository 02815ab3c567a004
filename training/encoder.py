"""Trains the changes to the encoder's matrices, and the heads with them."""

from __future__ import annotations

import functools
import logging
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from services.moderation.classifier.artefact import HEADS
from services.runtime.safetensors_file import read_header, read_tensors
from services.runtime.sentence_encoder_graph import BertShape
from training.augmentation import vary
from training.bert import Tree, Weights, encode, new_changes
from training.rows import Example

_log = logging.getLogger(__name__)

Floats = NDArray[np.float32]

CHANGED_LAYERS = (2, 3, 4, 5)
"""The first layers stay as they are: they say what words are about, and what they learn costs most."""
_LENGTHS = (12, 16, 20, 24, 32, 48, 72)
"""Tokens that texts are filled up to: each is compiled once. Of longer ones a part is trained on."""
_BATCH_TOKENS = 1024
_WARM_UP = 0.06
_SMOOTHING = 0.03
"""Labels are wrong now and then; nothing is worth being certain about."""
_CATEGORIES_WEIGHT = 0.3
_DECAY = 0.01
_NORM = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How it is trained."""

    epochs: float
    rank: int = 16
    scale: float = 1.0
    rate: float = 1.5e-3
    head_rate: float = 3e-3


@dataclass(frozen=True, slots=True)
class Trained:
    """What training found. The changes are by the names of the encoder's matrices, with `.down` and `.up`."""

    changes: dict[str, NDArray[np.float16]]
    head: Floats
    head_bias: Floats


class Batch(NamedTuple):
    """Arrays with a row per text."""

    ids: NDArray[np.int32]
    mask: Floats
    targets: Floats
    weights: Floats
    categories: Floats


class EncoderTrainer:
    """The encoder's own weights and its tokenizer, loaded once for many trainings."""

    def __init__(self, file: Path, shape: BertShape) -> None:
        header, _ = read_header(file)
        names = [name for name, about in header.items() if name != "__metadata__" and about["dtype"] == "F32"]
        self.weights = Weights.of(read_tensors(file, names), shape)
        self._steps: dict[Plan, Any] = {}
        self._tokenizer: Tokenizer = Tokenizer.from_file(str(file.parent / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(_LENGTHS[-1])

    def vectors(self, texts: Sequence[str]) -> Floats:
        """Vectors of the encoder as it came."""
        ids = [self.tokenize(text) for text in texts]
        found = np.zeros((len(texts), self.weights.shape.width), dtype=np.float32)
        embed = jax.jit(lambda ids, mask: encode(self.weights, {}, ids, mask, scale=0.0))
        for places, length in _grouped(ids, list(range(len(ids)))):
            rows, mask = _padded([ids[at] for at in places], length)
            found[places] = np.asarray(embed(rows, mask))[: len(places)]
        return found

    def tokenize(self, text: str) -> list[int]:
        """Tokens of a text, of a long one those at its beginning."""
        ids: list[int] = self._tokenizer.encode(text.encode("utf-8", "replace").decode()).ids
        return ids

    def train(
        self, examples: Sequence[Example], *, head: Floats, head_bias: Floats, plan: Plan, seed: int, name: str
    ) -> Trained:
        """Train on the examples, beginning with these heads."""
        parts: Tree = {
            "changes": new_changes(
                self.weights, layers=CHANGED_LAYERS, rank=plan.rank, random=np.random.default_rng(seed)
            ),
            "head": jnp.asarray(head.T),
            "bias": jnp.asarray(head_bias),
        }
        batches = list(self._batches(examples, epochs=plan.epochs, seed=seed))
        if plan not in self._steps:
            self._steps[plan] = _make_step(self.weights.shape, plan)
        step = functools.partial(self._steps[plan], tensors=self.weights.tensors, steps=len(batches))
        state: Any = (parts, jax.tree.map(jnp.zeros_like, parts), jax.tree.map(jnp.zeros_like, parts))
        losses: list[float] = []
        started = time.monotonic()
        for number, batch in enumerate(batches):
            state, loss = step(state, number, batch)
            losses.append(float(loss))
            if number % 100 == 99:
                _log.info(
                    "%s: step %d of %d, loss %.4f, %.0f s",
                    name,
                    number + 1,
                    len(batches),
                    np.mean(losses[-100:]),
                    time.monotonic() - started,
                )
        parts = state[0]
        # Half precision is what the file holds: what is measured is what is shipped.
        changes = {at: np.asarray(tensor).astype(np.float16) for at, tensor in parts["changes"].items()}
        return Trained(changes, np.asarray(parts["head"]).T.copy(), np.asarray(parts["bias"]).copy())

    def _batches(self, examples: Sequence[Example], *, epochs: float, seed: int) -> Iterator[Batch]:
        random = Random(seed)
        while epochs > 0:
            share = min(1.0, epochs)
            epochs -= share
            drawn: list[tuple[Example, float]] = []
            for example in examples:
                # Examples that count for less are drawn less often: that costs less time as well.
                most = max(example.weights)
                if random.random() < most * share:
                    drawn.append((example, max(1.0, most) / most))
            ids = [self.tokenize(vary(example.text, kind=example.kind, random=random)) for example, _ in drawn]
            order = list(range(len(drawn)))
            random.shuffle(order)
            groups = list(_grouped(ids, order))
            random.shuffle(groups)
            for places, length in groups:
                yield _batch([ids[at] for at in places], [drawn[at] for at in places], length)


def _grouped(ids: Sequence[Sequence[int]], order: Sequence[int]) -> Iterator[tuple[list[int], int]]:
    """Places of texts of like length, in batches, and the length of each batch."""
    waiting: dict[int, list[int]] = defaultdict(list)
    for at in order:
        length = next(length for length in _LENGTHS if len(ids[at]) <= length)
        waiting[length].append(at)
        if len(waiting[length]) == _rows_of(length):
            yield waiting.pop(length), length
    for length, places in sorted(waiting.items()):
        yield places, length


def _rows_of(length: int) -> int:
    return _BATCH_TOKENS // length


def _padded(ids: Sequence[Sequence[int]], length: int) -> tuple[NDArray[np.int32], Floats]:
    rows = np.zeros((_rows_of(length), length), dtype=np.int32)
    mask = np.zeros(rows.shape, dtype=np.float32)
    for row, text in enumerate(ids):
        rows[row, : len(text)] = text
        mask[row, : len(text)] = 1
    return rows, mask


def _batch(ids: Sequence[Sequence[int]], drawn: Sequence[tuple[Example, float]], length: int) -> Batch:
    rows, mask = _padded(ids, length)
    count = len(rows)
    targets = np.zeros((count, len(HEADS)), dtype=np.float32)
    weights = np.zeros_like(targets)
    categories = np.zeros((count, len(drawn[0][0].categories)), dtype=np.float32)
    for row, (example, factor) in enumerate(drawn):
        known = ~np.isnan(example.targets)
        targets[row, known] = np.array(example.targets)[known]
        weights[row, known] = np.array(example.weights)[known] * factor
        categories[row] = example.categories
    return Batch(rows, mask, targets, weights, categories)


def _make_step(shape: BertShape, plan: Plan) -> Any:
    """A step of AdamW: the rate grows, then falls to nothing. Compiled once for all trainings of a plan."""

    def loss_of(parts: Tree, tensors: Tree, batch: Batch) -> Any:
        vectors = encode(Weights(shape, tensors), parts["changes"], batch.ids, batch.mask, scale=plan.scale)
        logits = vectors @ parts["head"] + parts["bias"]
        wanted = batch.targets * (1 - 2 * _SMOOTHING) + _SMOOTHING
        heads, rest = logits[:, : len(HEADS)], logits[:, len(HEADS) :]
        crossed = jax.nn.softplus(heads) - heads * wanted
        named = -(batch.categories * jax.nn.log_softmax(rest)).sum(axis=-1)
        count = (batch.mask.sum(axis=1) > 0).sum()
        return ((crossed * batch.weights).sum() + _CATEGORIES_WEIGHT * named.sum()) / jnp.maximum(count, 8)

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state: Any, number: Any, batch: Batch, *, tensors: Tree, steps: Any) -> Any:
        parts, first, second = state
        loss, slopes = jax.value_and_grad(loss_of)(parts, tensors, batch)
        length = jnp.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(slopes)))
        slopes = jax.tree.map(lambda leaf: leaf * jnp.minimum(1.0, _NORM / (length + 1e-9)), slopes)
        done = (number + 1) / steps
        pace = jnp.minimum(done / _WARM_UP, (1 - done) / (1 - _WARM_UP))
        first = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, first, slopes)
        second = jax.tree.map(lambda old, new: 0.99 * old + 0.01 * new**2, second, slopes)
        rates = {"changes": plan.rate, "head": plan.head_rate, "bias": plan.head_rate}

        def moved(rate: float, part: Any, mean: Any, square: Any) -> Any:
            mean, square = mean / (1 - 0.9 ** (number + 1)), square / (1 - 0.99 ** (number + 1))
            return part - pace * rate * (mean / (jnp.sqrt(square) + 1e-8) + _DECAY * part)

        new = {
            name: jax.tree.map(functools.partial(moved, rate), parts[name], first[name], second[name])
            for name, rate in rates.items()
        }
        return (new, first, second), loss

    return step
