"""Every engine by its name. To add one: a file with a class that does what `Engine` says, and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from services.inference.engines.engine import Engine
from services.inference.engines.llama_cpp import LlamaCppEngine
from services.inference.engines.minilm import MiniLmEngine
from services.inference.engines.openai.engine import OpenAIEngine
from services.inference.engines.synthetic import SyntheticEngine
from services.inference.engines.tensorrt_llm.engine import TensorRtLlmEngine
from services.runtime.model_registry import ModelEntry

ENGINES: Mapping[str, Callable[[ModelEntry], Engine]] = {
    "llama_cpp": LlamaCppEngine,
    "minilm": MiniLmEngine,
    "openai": OpenAIEngine,
    "synthetic": SyntheticEngine,
    "tensorrt_llm": TensorRtLlmEngine,
}
"""By the name that the models file uses: makes an engine that is not started yet. Each raises SettingsError."""
