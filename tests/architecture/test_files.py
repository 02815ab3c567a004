"""What no file may hold."""

from __future__ import annotations

import re
from pathlib import Path

from tests.architecture.tree import ROOT, files_of_the_tree, modules

MAX_LINES = 400

# A path of somebody's machine, or the host that somebody fetched packages from.
MACHINE_PATH = re.compile(r"(?<![\w.])/(root|home/\w+|Users/\w+|work/(main|shared|tmp))/")
REGISTRY_HOST = re.compile(r"\b(pypi|pythonhosted|npmjs|proxy\.golang|sum\.golang|yarnpkg)\.(org|com)\b")


def text_of(path: Path) -> str:
    content = path.read_bytes()
    return "" if b"\0" in content else content.decode()


def test_files_of_services_are_short() -> None:
    long = {
        module.name: lines for module in modules() if (lines := len(module.path.read_text().splitlines())) > MAX_LINES
    }
    assert not long, f"more than {MAX_LINES} lines: split by what the parts are for"


def test_nothing_names_a_machine_or_a_registry() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in files_of_the_tree()
        if path != Path(__file__)
        for pattern in (MACHINE_PATH, REGISTRY_HOST)
        for match in pattern.finditer(text_of(path))
    ]
    assert not found


def test_the_patterns_bite() -> None:
    assert MACHINE_PATH.search("see /home/someone/notes")
    assert not MACHINE_PATH.search("GET /v1/root/x")
    assert REGISTRY_HOST.search("https://registry." + "npmjs.org/left-pad")
