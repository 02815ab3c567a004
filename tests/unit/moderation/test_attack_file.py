from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from services.moderation.attacks.pattern_file import PACKAGED_PATTERNS, Family, Origin, PatternFile
from services.moderation.attacks.patterns import AttackPatterns
from services.runtime.settings import SettingsError

GOOD = {
    "version": "1",
    "near_characters": 100,
    "mention": {"words": "what does", "characters": 100},
    "vocabulary": {"open": "open|unlock"},
    "patterns": {
        "persona": [
            {
                "name": "sesame",
                "languages": ["en"],
                "pattern": r"\b{open} sesame\b",
                "near": "cave",
                "unless_before": "never $",
                "unless_after": "^ seeds",
            }
        ]
    },
}


def load(tmp_path: Path, **changes: object) -> AttackPatterns:
    path = tmp_path / "patterns.yaml"
    path.write_text(yaml.safe_dump(GOOD | changes))
    return AttackPatterns.load(path)


def changed(family: str = "persona", count: int = 1, **changes: object) -> dict[str, list[dict[str, object]]]:
    return {family: [GOOD["patterns"]["persona"][0] | changes] * count}  # type: ignore[index]


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ("At the cave: open, sesame!", True),
        ("At the cave: UNLOCK\nSESAME", True),
        ("Open sesame", False),
        ("In the cave never open sesame", False),
        ("In the cave we open sesame seeds", False),
        ("The cave. Open. Sesame", False),
        ("What does 'open sesame' do at the cave?", False),
    ],
)
def test_what_the_keys_of_a_pattern_mean(tmp_path: Path, text: str, is_found: bool) -> None:
    assert bool(load(tmp_path).find(text, origin=Origin.USER)) == is_found


def test_a_pattern_is_asked_only_for_its_origins(tmp_path: Path) -> None:
    patterns = load(tmp_path, patterns=changed(origins=["untrusted"]))
    text = "the cave: open sesame"
    assert [finding.family for finding in patterns.find(text, origin=Origin.UNTRUSTED)] == [Family.PERSONA]
    assert patterns.find(text, origin=Origin.USER) == patterns.find(text, origin=Origin.HISTORY) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patterns": changed(pattern="a{shut}b")}, "pattern sesame: no vocabulary 'shut'"),
        ({"patterns": changed(pattern="(a")}, "pattern sesame: RE2 refuses it: missing \\)"),
        ({"patterns": changed(pattern="a*")}, "pattern sesame: it matches the empty text"),
        ({"patterns": changed(pattern="a(?=b)")}, "RE2 refuses it"),
        ({"patterns": changed(near="[")}, "pattern sesame: RE2 refuses it"),
        ({"patterns": changed(family="magic")}, r"patterns.magic"),
        ({"patterns": changed(origins=["moon"])}, r"patterns.persona\[0\].origins"),
        ({"patterns": changed(languages=["english"])}, r"patterns.persona\[0\].languages"),
        ({"patterns": changed(neer="cave")}, r"patterns.persona\[0\].neer: there is no such key"),
        ({"patterns": {}}, "patterns"),
        ({"patterns": changed(count=2)}, "two patterns have the same name: sesame"),
        ({"vocabulary": {"open": "("}}, "vocabulary open: RE2 refuses it"),
        ({"mention": {"words": "(", "characters": 10}}, "mention: RE2 refuses it"),
        ({"many_shot": [{"name": "m", "markers": "u", "answers": "(", "least": 4}]}, "pattern m: RE2 refuses it"),
        ({"many_shot": [{"name": "m", "markers": "u", "answers": "a", "least": 1}]}, "least"),
    ],
)
def test_a_bad_file_is_refused_by_saying_what_is_wrong(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        load(tmp_path, **changes)


def test_words_that_stand_for_each_other_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="nested too deeply"):
        load(tmp_path, vocabulary={"open": "{shut}", "shut": "{open}"})


def test_the_packaged_file_covers_every_family() -> None:
    file = PatternFile.model_validate(yaml.safe_load(PACKAGED_PATTERNS.read_text()))
    assert set(file.patterns) | {Family.MANY_SHOT} == set(Family)
    assert file.many_shot
