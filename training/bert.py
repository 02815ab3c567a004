"""The sentence encoder in JAX, with low-rank changes to its matrices: those are trained, and nothing else of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from services.moderation.classifier.artefact import changed_matrices
from services.runtime.sentence_encoder_graph import BertShape

_FAR_BELOW = -1e9

Tree = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Weights:
    """The encoder's own weights, by the names of its file."""

    shape: BertShape
    tensors: Tree

    @classmethod
    def of(cls, tensors: Mapping[str, np.ndarray], shape: BertShape) -> Weights:
        """Take what a safetensors file holds."""
        return cls(shape, {name: jnp.asarray(tensor) for name, tensor in tensors.items()})


def new_changes(weights: Weights, *, layers: Iterable[int], rank: int, random: np.random.Generator) -> Tree:
    """Low-rank changes that change nothing yet: `down` is random and `up` zero."""
    changes: Tree = {}
    for name in changed_matrices(layers):
        outputs, inputs = weights.tensors[f"{name}.weight"].shape
        down = random.normal(0, 1 / math.sqrt(inputs), (inputs, rank))
        changes[f"{name}.down"] = jnp.asarray(down, dtype=jnp.float32)
        changes[f"{name}.up"] = jnp.zeros((rank, outputs), dtype=jnp.float32)
    return changes


def encode(weights: Weights, changes: Tree, ids: jax.Array, mask: jax.Array, *, scale: float) -> jax.Array:
    """Vectors of length 1: the mean of the last layer's tokens, a row per text.

    The layers are written out one after another: in a loop, XLA copies so much that a step takes twice as long.
    """
    texts, places = ids.shape
    shape, own = weights.shape, weights.tensors
    embedded = own["embeddings.word_embeddings.weight"][ids]
    embedded = embedded + own["embeddings.position_embeddings.weight"][:places]
    embedded = embedded + own["embeddings.token_type_embeddings.weight"][0]
    hidden = _normalized(own, "embeddings.LayerNorm", embedded.reshape(texts * places, shape.width), shape)
    bias = (1 - mask)[:, None, None, :] * _FAR_BELOW
    for layer in range(shape.layers):
        hidden = _layer(own, changes, shape, f"encoder.layer.{layer}", hidden, bias, scale)
    rows = hidden.reshape(texts, places, shape.width)
    summed = (rows * mask[:, :, None]).sum(axis=1)
    return jnp.asarray(summed / jnp.sqrt((summed**2).sum(axis=1, keepdims=True) + 1e-12))


def _layer(
    own: Tree, changes: Tree, shape: BertShape, name: str, hidden: jax.Array, bias: jax.Array, scale: float
) -> jax.Array:
    texts, places = bias.shape[0], bias.shape[3]
    width = shape.width // shape.heads

    def linear(part: str, rows: jax.Array) -> jax.Array:
        at = f"{name}.{part}"
        found = rows @ own[f"{at}.weight"].T + own[f"{at}.bias"]
        if f"{at}.down" in changes:
            found += (rows @ changes[f"{at}.down"]) @ changes[f"{at}.up"] * scale
        return found

    def heads(part: str) -> jax.Array:
        return linear(f"attention.self.{part}", hidden).reshape(texts, places, shape.heads, width).transpose(0, 2, 1, 3)

    scores = heads("query") @ heads("key").transpose(0, 1, 3, 2) / math.sqrt(width) + bias
    seen = (jax.nn.softmax(scores, axis=-1) @ heads("value")).transpose(0, 2, 1, 3).reshape(-1, shape.width)
    attended = linear("attention.output.dense", seen) + hidden
    attended = _normalized(own, f"{name}.attention.output.LayerNorm", attended, shape)
    inner = jax.nn.gelu(linear("intermediate.dense", attended), approximate=False)
    return _normalized(own, f"{name}.output.LayerNorm", linear("output.dense", inner) + attended, shape)


def _normalized(own: Tree, name: str, rows: jax.Array, shape: BertShape) -> jax.Array:
    mean = rows.mean(axis=-1, keepdims=True)
    spread = ((rows - mean) ** 2).mean(axis=-1, keepdims=True)
    return (rows - mean) * jax.lax.rsqrt(spread + shape.epsilon) * own[f"{name}.weight"] + own[f"{name}.bias"]
