"""Trains the classifier of Moderation: `make train DATA=<folder>`.

Reads the rows, trains once for each group of sets that is left out, calibrates on what was left out, trains once on
all, and writes the model and the figures of its card.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from services.moderation.classifier.artefact import FORMAT, PACKAGED, Description
from services.runtime.safetensors_file import write_tensors
from training.calibration import Calibrated, LeftOut, calibrate
from training.encoder import Plan
from training.leaving_out import Trainings
from training.lookalikes import generate
from training.report import write_report
from training.rows import FOLDS, Example, digest, fold_of, read_rows, to_examples
from training.scores import ENCODER, Parts

_log = logging.getLogger(__name__)

_LOOKED_AT = 400
"""Answers of a set and label whose looks are scored: they take longer than all other scores."""
_CARD = Path("docs/moderation-model-card.md")


def main() -> None:
    """Do all of it; what a run before this one has done for the same rows and settings is not done again."""
    arguments = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("jax").setLevel(logging.WARNING)
    rows = [*read_rows(arguments.data), *generate(seed=arguments.seed)]
    examples, plan = to_examples(rows), Plan(epochs=arguments.epochs)
    named = digest(rows)
    folder = arguments.work / f"{named}-{arguments.seed}-{arguments.epochs:g}"
    jax.config.update("jax_compilation_cache_dir", str(arguments.work.absolute() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    trainings = Trainings(examples, seed=arguments.seed, plan=plan, folder=folder)

    left_out = _left_out(trainings, examples)
    calibrated = calibrate(left_out)
    parts = trainings.parts(None)
    file = arguments.out
    _write(file, parts, calibrated, data=named, seed=arguments.seed)
    held = [at for at, example in enumerate(examples) if example.part == "val"]
    kept = LeftOut(
        examples=[examples[at] for at in held],
        scores=trainings.scores(None, held),
        looks=left_out.looks[:0],
        owners=left_out.owners[:0],
        looked=np.zeros(len(held), dtype=bool),
    )
    write_report(arguments.card, left_out=left_out, calibrated=calibrated, held=kept, model=file)
    _log.info("wrote %s, %s and the figures of %s", file, file.with_suffix(".json"), arguments.card)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("data", type=Path, help="folder of .jsonl files")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=float, default=0.7, help="0 trains heads only")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(".build/training"),
        help="where finished steps are kept; remove it when the training itself was changed",
    )
    parser.add_argument("--out", type=Path, default=PACKAGED, help="the .safetensors file; a .json goes beside it")
    parser.add_argument("--card", type=Path, default=_CARD, help="the model card that the figures are written into")
    return parser.parse_args()


def _left_out(trainings: Trainings, examples: Sequence[Example]) -> LeftOut:
    places: list[int] = []
    scores, looks, owners, looked = [], [], [], []
    for fold in range(len(FOLDS)):
        own = [at for at, example in enumerate(examples) if fold_of(example) == fold]
        scores.append(trainings.scores(fold, own))
        some = _some_outputs(examples, own)
        found, whose = trainings.look_scores(fold, some)
        place_of = {at: len(places) + row for row, at in enumerate(own)}
        looks.append(found)
        owners += [place_of[int(at)] for at in whose]
        looked += [place_of[at] for at in some]
        places += own
    return LeftOut(
        examples=[examples[at] for at in places],
        scores=np.concatenate(scores),
        looks=np.concatenate(looks),
        owners=np.array(owners, dtype=np.intp),
        looked=np.isin(np.arange(len(places)), looked),
    )


def _some_outputs(examples: Sequence[Example], places: Sequence[int]) -> list[int]:
    """Enough answers of each set and label to see what looking often does."""
    groups: dict[tuple[str, bool], list[int]] = defaultdict(list)
    for at in places:
        if examples[at].kind == "output":
            groups[examples[at].set, examples[at].unsafe].append(at)
    return sorted(at for group in groups.values() for at in group[:: max(1, -(-len(group) // _LOOKED_AT))])


def _write(file: Path, parts: Parts, calibrated: Calibrated, *, data: str, seed: int) -> None:
    tensors: dict[str, NDArray[Any]] = {
        "linear.weight": parts.linear.astype(np.float16),
        "linear.bias": parts.linear_bias.astype(np.float32),
        "head.weight": parts.trained.head.astype(np.float32),
        "head.bias": parts.trained.head_bias.astype(np.float32),
        **parts.trained.changes,
    }
    write_tensors(file, tensors)
    description = Description(
        format=FORMAT,
        version=f"minilm-{hashlib.sha256(file.read_bytes()).hexdigest()[:12]}",
        seed=seed,
        data=data,
        encoder=ENCODER,
        layers=parts.layers,
        scale=parts.scale,
        heads=calibrated.heads,
        points=calibrated.points,
    )
    file.with_suffix(".json").write_text(json.dumps(description.model_dump(), indent=2) + "\n")


if __name__ == "__main__":
    main()
