"""Every engine by its name. To add one: a file with a class that does what `Engine` says, and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from services.inference.engines.engine import Engine
from services.inference.engines.llama_cpp import LlamaCppEngine
from services.inference.engines.synthetic import SyntheticEngine
from services.runtime.model_registry import ModelEntry

ENGINES: Mapping[str, Callable[[ModelEntry], Engine]] = {
    "llama_cpp": LlamaCppEngine,
    "synthetic": SyntheticEngine,
}
"""By the name that the models file uses: makes an engine that is not started yet. Each raises SettingsError."""
