"""Logistic regressions: the linear model, and the heads that training of the encoder starts from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from services.moderation.classifier.artefact import CATEGORIES, HEADS
from services.moderation.classifier.features import BUCKETS, buckets
from training.rows import Example

Floats = NDArray[np.float32]

_LINEAR_C = 8.0
"""Inverse of the penalty on weights. Chosen on sets that were left out."""
_VECTOR_C = 4.0
_LEAST_ROWS = 20
"""A head with fewer rows of either kind is not trained: it says no."""


def to_matrix(texts: Sequence[str]) -> sparse.csr_matrix:
    """Rows of features as the classifier computes them."""
    found = [buckets(text) for text in texts]
    lengths = np.array([len(row) for row in found])
    values = np.repeat(1 / np.sqrt(np.maximum(lengths, 1)), lengths).astype(np.float32)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    columns = np.concatenate(found) if found else np.zeros(0, dtype=np.int64)
    return sparse.csr_matrix((values, columns, starts), shape=(len(texts), BUCKETS))


def fit_heads(
    features: Any, examples: Sequence[Example], *, hashed: bool, share: Floats | None = None
) -> tuple[Floats, Floats]:
    """A row of weights and a bias per head. `share`: how much of an example each row is."""
    targets = np.array([example.targets for example in examples])
    weights = np.array([example.weights for example in examples])
    if share is not None:
        weights = weights * share[:, None]
    rows, biases = [], []
    for head in range(len(HEADS)):
        known = ~np.isnan(targets[:, head]) & (weights[:, head] > 0)
        wanted = targets[known, head]
        if min(wanted.sum(), (1 - wanted).sum()) < _LEAST_ROWS:
            rows.append(np.zeros(features.shape[1], dtype=np.float32))
            biases.append(-5.0)
            continue
        model = LogisticRegression(C=_LINEAR_C if hashed else _VECTOR_C, max_iter=200, tol=1e-3)
        model.fit(features[known], wanted, sample_weight=weights[known, head])
        rows.append(model.coef_[0].astype(np.float32))
        biases.append(float(model.intercept_[0]))
    return np.stack(rows), np.array(biases, dtype=np.float32)


def fit_categories(vectors: Floats, examples: Sequence[Example]) -> tuple[Floats, Floats]:
    """A row of weights and a bias per category, for a softmax."""
    shares = np.array([example.categories for example in examples])
    places, names = np.nonzero(shares)
    weights = shares[places, names] * np.array([max(examples[int(at)].weights) for at in places])
    model = LogisticRegression(C=_VECTOR_C, max_iter=300, tol=1e-3)
    model.fit(vectors[places], names, sample_weight=weights)
    rows = np.zeros((len(CATEGORIES), vectors.shape[1]), dtype=np.float32)
    biases = np.full(len(CATEGORIES), -9.0, dtype=np.float32)
    for row, name in enumerate(model.classes_):
        rows[name], biases[name] = model.coef_[row], model.intercept_[row]
    return rows, biases
