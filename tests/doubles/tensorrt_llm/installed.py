"""Puts the double in the place of the library, as long as a test runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = Path(__file__).parent
"""What PYTHONPATH must have for a process that is to find the double."""

_PACKAGES = ("tensorrt_llm", "transformers", "torch")


@contextmanager
def installed() -> Iterator[None]:
    """`import tensorrt_llm` finds the double, and so do imports of what comes with the library."""
    sys.path.insert(0, str(FOLDER))
    try:
        yield
    finally:
        sys.path.remove(str(FOLDER))
        for name in [name for name in sys.modules if name.partition(".")[0] in _PACKAGES]:
            del sys.modules[name]
