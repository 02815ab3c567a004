"""Reading labelled texts."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from services.moderation.evaluation.rows import load_rows
from services.moderation.model import Direction
from services.runtime.settings import SettingsError

FULL = {
    "id": "a-1",
    "text": "my card is 4111",
    "label": "unsafe",
    "categories": ["pii"],
    "source": "somewhere",
    "kind": "output",
    "set": "a",
    "head": "pii",
    "nc": False,
    "cluster": "a:1",
    "part": "val",
    "spans": [{"type": "card", "start": 11, "end": 15, "value": "4111"}],
}


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def test_a_full_row(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", FULL)
    [row] = load_rows(tmp_path)
    assert (row.id, row.set, row.head, row.cluster, row.part) == ("a-1", "a", "pii", "a:1", "val")
    assert (row.unsafe, row.direction, row.is_pii) == (True, Direction.OUTPUT, True)
    assert row.spans is not None
    assert (row.spans[0].type, row.spans[0].start, row.spans[0].end) == ("card", 11, 15)


def test_what_a_row_may_leave_out(tmp_path: Path) -> None:
    write(
        tmp_path / "mine.jsonl",
        {"text": "a", "label": "safe"},
        {"text": "b", "label": "unsafe", "kind": "output", "set": None},
        {"text": "c", "label": "safe", "spans": [], "id": "c"},
    )
    plain, output, entities = load_rows(tmp_path)
    assert (plain.id, plain.set, plain.head, plain.kind, plain.spans) == ("mine:1", "mine", "harm", "input", None)
    assert (output.head, output.set, output.cluster) == ("harm_output", "mine", "mine:mine:2")
    assert (entities.head, entities.is_pii, entities.cluster) == ("pii", True, "mine:c")


def test_empty_lines_and_other_separators_within_a_text(tmp_path: Path) -> None:
    lines = '{"text": "one\u2028line", "label": "safe"}\n\n{"text": "two", "label": "safe"}\n'
    (tmp_path / "a.jsonl").write_text(lines, encoding="utf-8")
    assert [row.text for row in load_rows(tmp_path)] == ["one\u2028line", "two"]
    assert [row.id for row in load_rows(tmp_path)] == ["a:1", "a:3"]


def test_a_file_of_any_name_and_a_gzipped_one(tmp_path: Path) -> None:
    file = write(tmp_path / "rows.txt", {"text": "a", "label": "safe"})
    assert load_rows(file)[0].set == "rows"
    with pytest.raises(SettingsError, match=r"no file that ends in \.jsonl"):
        load_rows(tmp_path)
    with gzip.open(tmp_path / "packed.jsonl.gz", "wt") as packed:
        packed.write('{"text": "a", "label": "safe"}\n')
    assert load_rows(tmp_path)[0].set == "packed"


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ('{"text": "secret words", "label": ', "not JSON at column"),
        ("[1]", "must be an object, this is a list"),
        ('{"text": "secret words", "label": "bad"}', "label: Input should be 'safe' or 'unsafe'"),
        ('{"label": "safe"}', "text: Field required"),
        ('{"text": "", "label": "safe"}', "text: String should have at least 1 character"),
        ('{"text": 5, "label": "safe"}', "text: Input should be a valid string"),
        ('{"text": "a", "label": "safe", "kind": "both"}', "kind: Input should be 'input' or 'output'"),
        ('{"text": "a", "label": "safe", "categories": "x"}', "categories: "),
        ('{"text": "secret words", "label": "safe", "spans": [{"type": "t", "start": 3, "end": 99}]}', "does not lie"),
        (
            '{"text": "secret words", "label": "safe", "spans": [{"type": "t", "start": 0, "end": 2, "value": "wo"}]}',
            "does not hold its value",
        ),
    ],
)
def test_a_wrong_row_is_named_and_not_quoted(tmp_path: Path, line: str, wrong: str) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"text": "ok", "label": "safe"}}\n{line}\n', encoding="utf-8")
    with pytest.raises(SettingsError) as raised:
        load_rows(tmp_path)
    assert "a.jsonl, line 2: " in str(raised.value)
    assert wrong in str(raised.value)
    assert "secret" not in str(raised.value)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="neither a folder nor a file"):
        load_rows(tmp_path / "nothing")
    (tmp_path / "a.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="cannot be read"):
        load_rows(tmp_path)
    (tmp_path / "a.jsonl").unlink()
    (tmp_path / "b.jsonl.gz").write_bytes(b"not gzip")
    with pytest.raises(SettingsError, match="cannot be read"):
        load_rows(tmp_path)


def test_only_some_rows(tmp_path: Path) -> None:
    write(
        tmp_path / "a.jsonl",
        *({"text": f"{number}", "label": "safe", "part": "val" if number % 2 else "train"} for number in range(40)),
        {"text": "out", "label": "safe", "kind": "output"},
    )
    assert [row.text for row in load_rows(tmp_path, kind="output")] == ["out"]
    assert len(load_rows(tmp_path, part="val")) == 20
    drawn = [row.text for row in load_rows(tmp_path, limit=7, seed=1)]
    assert len(set(drawn)) == 7
    assert drawn == [row.text for row in load_rows(tmp_path, limit=7, seed=1)]
    assert drawn != [row.text for row in load_rows(tmp_path, limit=7, seed=2)]
    assert len(load_rows(tmp_path, limit=1000)) == 41
    with pytest.raises(SettingsError, match="no rows of kind output part val"):
        load_rows(tmp_path, kind="output", part="val")
