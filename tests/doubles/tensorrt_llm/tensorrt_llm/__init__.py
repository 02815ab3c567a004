"""A double of TensorRT-LLM's LLM API, for tests where there is no GPU.

It has the signatures that the engine builds on, and the habits that have surprised its users: a result that yields
itself, is changed with each step and goes on when nobody reads it; statistics that can be read once and whose iterator
ends; stop strings whose start is shown; a default of 32 tokens; an error of the runtime after which no other answer
goes on. Behind it is a small deterministic model.
"""

from __future__ import annotations

from .llm import LLM
from .sampling_params import SamplingParams

__all__ = ["LLM", "SamplingParams"]
__version__ = "1.2.1"
