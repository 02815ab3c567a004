"""The rows that are trained on: what each one teaches, and which stay together when some are left out."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from services.moderation.classifier.artefact import CATEGORIES
from services.moderation.text.normalise import for_classifier
from training.categories import category_of

UNKNOWN = math.nan
"""The target of a head about which a row says nothing."""

FOLDS: Sequence[frozenset[str]] = (
    frozenset(
        {"advbench", "harmbench", "malicious_instruct", "giskard_injection", "selfreminder_jb", "advbench_strings"}
        | {"arena_hard", "awesome_prompts", "arena_hard_answers", "presidio_synth"}
    ),
    frozenset(
        {"ailuminate_demo", "davidson", "deepset_injection"} | {"self_instruct", "fuzzyai_benign", "gsm8k_answers"}
    ),
    frozenset(
        {"harmfulqa", "catqa", "wiki_toxicity", "inthewild_jailbreak", "gptfuzz_out_train"} | {"truthfulqa", "gsm8k"}
    ),
    frozenset(
        {"xstest", "hatecheck", "openai_moderation", "bipia_email"}
        | {"gpteacher_codegen", "gpteacher_roleplay", "gpteacher_rp_answers", "pii_synth"}
    ),
)
"""Sets that are left out together: each fold leaves out harmful and harmless ones of forms that the rest has not."""

BENIGN_SETS = frozenset(
    {"arena_hard", "awesome_prompts", "fuzzyai_benign", "gpteacher_codegen", "gpteacher_roleplay", "gsm8k"}
    | {"self_instruct", "truthfulqa"}
)
"""Ordinary prompts: operating points are shares of these."""

_STATEMENTS = frozenset({"hatecheck", "davidson", "wiki_toxicity", "openai_moderation", "advbench_strings"})
"""What these hold is harmful, or not, whoever says it: a user or a model."""
_OTHER_DIRECTION = 0.3
"""How much a row counts in the direction that its set was not made for."""
_FULL_SETS = 300
"""Rows of a set and label from which on each one counts for less, so that no set's style rules."""
_MAX_WEIGHT = 1.5
_PII_WEIGHT = 0.3
"""They are ordinary texts to this model, and all of a few templates."""


@dataclass(frozen=True, slots=True)
class Example:
    """One row."""

    id: str
    text: str
    set: str
    kind: str
    head: str
    unsafe: bool
    part: str
    cluster: str
    targets: tuple[float, ...]
    """1, 0 or UNKNOWN for harm, attack and harm_output."""
    weights: tuple[float, ...]
    """How much each of the targets counts."""
    categories: tuple[float, ...]
    """Shares that sum to 1, or all 0 where nothing is known."""
    labels: tuple[str, ...]


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """All rows of a folder's .jsonl files, by the names of the files.

    Raises:
        SystemExit: there are none.
    """
    rows = [json.loads(line) for file in sorted(folder.glob("*.jsonl")) for line in file.open(encoding="utf-8")]
    if not rows:
        raise SystemExit(f"there are no .jsonl files in {folder}; name the folder with DATA=<folder>")
    return rows


def digest(rows: Iterable[Mapping[str, Any]]) -> str:
    """Names what was trained on."""
    total = hashlib.sha256()
    for row in rows:
        total.update(json.dumps([row["id"], row["text"], row["label"], row["part"]]).encode())
    return total.hexdigest()[:16]


def to_examples(rows: Sequence[Mapping[str, Any]]) -> list[Example]:
    """What each row teaches."""
    return _weighted([_example(row) for row in rows])


def fold_of(example: Example) -> int | None:
    """Which fold leaves the row's set out; None: it is never left out."""
    for number, sets in enumerate(FOLDS):
        if example.set in sets:
            return number
    return None


def _example(row: Mapping[str, Any]) -> Example:
    unsafe = row["label"] == "unsafe"
    targets, weights = _targets(row, unsafe=unsafe)
    known = [category_of(row["set"], label) for label in row["categories"]] if unsafe else []
    counts = Counter(name for name in known if name is not None)
    total = sum(counts.values())
    return Example(
        id=row["id"],
        text=for_classifier(row["text"]),
        set=row["set"],
        kind=row["kind"],
        head=row["head"],
        unsafe=unsafe,
        part=row["part"],
        cluster=str(row["cluster"]),
        targets=targets,
        weights=weights,
        categories=tuple(counts[name] / total if total else 0.0 for name in CATEGORIES),
        labels=tuple(str(label) for label in row["categories"]),
    )


def _targets(row: Mapping[str, Any], *, unsafe: bool) -> tuple[tuple[float, ...], tuple[float, ...]]:
    value = float(unsafe)
    both = _OTHER_DIRECTION if row["set"] in _STATEMENTS else 0.0
    if row["kind"] == "output":
        return (value if both else UNKNOWN, UNKNOWN, value), (both, 0.0, 1.0)
    match row["head"]:
        case "harm":
            # Some of these prompts use the tricks of attacks to ask for harm.
            tricks = "skilled" in row["categories"]
            return (value, UNKNOWN if tricks else 0.0, value if both else UNKNOWN), (1.0, 0.5, both)
        case "attack":
            # An attack may ask for harm or not: nobody said.
            return (UNKNOWN if unsafe else 0.0, value, UNKNOWN), (1.0, 1.0, 0.0)
        case "pii":
            return (0.0, 0.0, UNKNOWN), (_PII_WEIGHT, _PII_WEIGHT, 0.0)
        case _:
            return (0.0, 0.0, UNKNOWN), (1.0, 1.0, 0.0)


def _weighted(examples: Sequence[Example]) -> list[Example]:
    counts = Counter((example.set, example.unsafe) for example in examples if example.part == "train")
    weighted = []
    for example in examples:
        count = max(1, counts[example.set, example.unsafe])
        factor = min(_MAX_WEIGHT, math.sqrt(_FULL_SETS / count))
        weighted.append(replace(example, weights=tuple(weight * factor for weight in example.weights)))
    return weighted
