"""The trained model as files: tensors, and beside them a document that says how to read their scores."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.moderation.classifier.features import BUCKETS
from services.runtime.safetensors_file import read_tensors
from services.runtime.settings import SettingsError

HEADS = ("harm", "attack", "harm_output")
CATEGORIES = ("hate", "harassment", "self-harm", "sexual", "violence", "illicit")
"""Of harm. The network's outputs are those of the heads, then these."""
POINTS = ("fpr_0.1%", "fpr_0.5%", "fpr_1%", "fpr_2%", "fpr_5%")
"""Operating points: thresholds that this share of harmless texts reaches."""
MATRICES = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)
"""Of each layer of the encoder: what was trained further, as a product of two narrow matrices that is added."""
PACKAGED = Path(__file__).with_name("model.safetensors")
FORMAT = 1

Floats = NDArray[np.float32]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Fit(_Document):
    """How scores become the log-odds of a probability: `bias` and a weight for each of them."""

    bias: float
    linear: float
    highest: float = Field(0.0, description="of the encoder's score of the window where it is highest")
    mean: float = Field(0.0, description="of the encoder's mean score over windows")


class HeadFit(_Document):
    """What is done with one head's scores."""

    sure_below: float = Field(description="score of the linear model under which it answers alone")
    quick_below: float | None = Field(None, description="the same where a quick answer is asked for; none: the same")
    alone: Fit = Field(description="for texts that the linear model answers alone")
    together: Fit = Field(description="for texts that the encoder has read")


class Description(_Document):
    """What model.json says of model.safetensors."""

    format: int = Field(description="of the two files; another one cannot be read")
    version: str = Field(min_length=1)
    seed: int
    data: str = Field(description="digest of the rows that it was trained on")
    encoder: str = Field(description="package:// path of the weights that it was trained from")
    layers: tuple[int, ...] = Field(strict=False, description="of the encoder, those whose matrices were changed")
    scale: float = Field(description="of the changes")
    heads: Mapping[str, HeadFit]
    points: Mapping[str, Mapping[str, Mapping[str, float]]] = Field(
        description="thresholds: by stream (input, output, output_stream), head, operating point"
    )


@dataclass(frozen=True, slots=True)
class Artefact:
    """Both files, read and checked."""

    description: Description
    linear: Floats
    """A row per head, a column per bucket."""
    linear_bias: Floats
    head: Floats
    """A row per head and category, a column per number of the encoder's vector."""
    head_bias: Floats
    changes: Mapping[str, tuple[Floats, Floats]]
    """By the name of the matrix: `down` (inputs by rank) and `up` (rank by outputs)."""

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read the tensors of `file` and the document beside it, which has its name and ends in .json.

        Raises:
            SettingsError: saying what is wrong and what to do.
        """
        try:
            description = Description.model_validate_json(file.with_suffix(".json").read_bytes())
            if description.format != FORMAT:
                raise ValueError(f"its format is {description.format}, and this version reads {FORMAT}")
            return cls._of(description, read_tensors(file))
        except (OSError, ValueError, TypeError, KeyError, json.JSONDecodeError, ValidationError) as error:
            raise SettingsError(
                f"classifier {file}: it and the .json file beside it are no trained classifier: "
                f"{type(error).__name__}: {error}; name another model, or train one with `make train DATA=<folder>`"
            ) from error

    @classmethod
    def _of(cls, description: Description, tensors: Mapping[str, Floats]) -> Self:
        missing = set(HEADS) - description.heads.keys()
        if missing:
            raise ValueError(f"the document has no heads {', '.join(sorted(missing))}")
        found = cls(
            description=description,
            linear=tensors["linear.weight"],
            linear_bias=tensors["linear.bias"],
            head=tensors["head.weight"],
            head_bias=tensors["head.bias"],
            changes={
                name: (tensors[f"{name}.down"], tensors[f"{name}.up"]) for name in changed_matrices(description.layers)
            },
        )
        outputs = len(HEADS) + len(CATEGORIES)
        if found.linear.shape != (len(HEADS), BUCKETS) or found.head.shape[0] != outputs:
            raise ValueError(f"the tensors have the shapes {found.linear.shape} and {found.head.shape}")
        return found


def changed_matrices(layers: Iterable[int]) -> list[str]:
    """Names of the encoder's matrices that training changes, as its file has them without `.weight`."""
    return [f"encoder.layer.{layer}.{part}" for layer in layers for part in MATRICES]
