"""The names that the LLM API exports."""

from __future__ import annotations

from .errors import RequestError
from .llm import LLM
from .llm_args import CudaGraphConfig, KvCacheConfig, MoeConfig, TorchLlmArgs
from .result import CompletionOutput, RequestOutput
from .sampling_params import GuidedDecodingParams, SamplingParams

__all__ = [
    "LLM",
    "CompletionOutput",
    "CudaGraphConfig",
    "GuidedDecodingParams",
    "KvCacheConfig",
    "MoeConfig",
    "RequestError",
    "RequestOutput",
    "SamplingParams",
    "TorchLlmArgs",
]
