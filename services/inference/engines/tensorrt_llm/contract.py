"""What this engine builds on in TensorRT-LLM, and whether an installed one has it.

Written down by hand for the 1.2 line (`tests/unittest/api_stability` and the sources of NVIDIA/TensorRT-LLM). The
library renames arguments and moves fields between versions, and some of that shows only under load: so an engine does
not start on a library that lacks a name of this list, and says which.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

LINE = "1.2"
"""The line of versions that the list was made for."""

PACKAGE = "tensorrt_llm"
IMAGE = "nvcr.io/nvidia/tensorrt-llm/release:1.2.1"


@dataclass(frozen=True, slots=True)
class Names:
    """Names that something of the library must have: parameters of a callable, fields or attributes of a class."""

    module: str
    path: str
    names: Sequence[str] = ()
    kind: str = "attribute"
    """`parameter`, `field` or `attribute`."""


MODULES = (PACKAGE, f"{PACKAGE}.llmapi", "transformers", "torch")

CONTRACT: Sequence[Names] = (
    Names(PACKAGE, "LLM.__init__", ("model", "tensor_parallel_size", "tokenizer", "trust_remote_code"), "parameter"),
    Names(PACKAGE, "LLM.generate_async", ("inputs", "sampling_params", "streaming"), "parameter"),
    Names(PACKAGE, "LLM.get_stats_async", ("timeout",), "parameter"),
    Names(PACKAGE, "LLM.get_kv_cache_events_async", ("timeout",), "parameter"),
    Names(PACKAGE, "LLM.shutdown"),
    Names(
        f"{PACKAGE}.llmapi",
        "TorchLlmArgs",
        (
            "cuda_graph_config",
            "enable_chunked_prefill",
            "enable_iter_perf_stats",
            "guided_decoding_backend",
            "kv_cache_config",
            "max_batch_size",
            "max_num_tokens",
            "max_seq_len",
            "model",
            "moe_config",
            "moe_expert_parallel_size",
            "pipeline_parallel_size",
            "sampler_type",
            "stream_interval",
            "tensor_parallel_size",
            "tokenizer",
            "trust_remote_code",
        ),
        "field",
    ),
    Names(
        f"{PACKAGE}.llmapi",
        "KvCacheConfig",
        (
            "dtype",
            "enable_block_reuse",
            "event_buffer_max_size",
            "free_gpu_memory_fraction",
            "host_cache_size",
            "tokens_per_block",
        ),
        "field",
    ),
    Names(f"{PACKAGE}.llmapi", "CudaGraphConfig", ("enable_padding", "max_batch_size"), "field"),
    Names(f"{PACKAGE}.llmapi", "MoeConfig", ("backend",), "field"),
    Names(f"{PACKAGE}.llmapi", "GuidedDecodingParams", ("grammar", "json"), "field"),
    Names(
        PACKAGE,
        "SamplingParams",
        (
            "detokenize",
            "embedding_bias",
            "frequency_penalty",
            "guided_decoding",
            "logprobs",
            "max_tokens",
            "presence_penalty",
            "seed",
            "temperature",
            "top_k",
            "top_p",
        ),
        "field",
    ),
    Names(
        f"{PACKAGE}.llmapi",
        "RequestOutput",
        ("__aiter__", "__anext__", "abort", "finished", "outputs"),
    ),
    Names(f"{PACKAGE}.llmapi", "CompletionOutput", ("logprobs_diff", "token_ids_diff")),
    Names(f"{PACKAGE}.llmapi", "CompletionOutput", ("finish_reason",), "field"),
    Names(f"{PACKAGE}.llmapi", "RequestError"),
    Names("transformers", "AutoTokenizer", ("from_pretrained",)),
    Names("transformers", "AutoConfig", ("from_pretrained",)),
    Names("torch", "zeros"),
    Names("torch", "float32"),
)


class NotInstalledError(Exception):
    """A module that the engine needs cannot be imported; the text says which and why."""


def load_modules() -> dict[str, ModuleType]:
    """Import what the engine needs. Takes seconds the first time.

    Raises:
        NotInstalledError: naming the module.
    """
    modules: dict[str, ModuleType] = {}
    for name in MODULES:
        try:
            modules[name] = importlib.import_module(name)
        except ImportError as error:
            raise NotInstalledError(f"{name} cannot be imported: {error}") from error
    return modules


def version_of(modules: dict[str, ModuleType]) -> str:
    """The version of the library; empty when it does not say."""
    return str(getattr(modules[PACKAGE], "__version__", ""))


def of_this_line(version: str) -> bool:
    """Whether the list was made for this version."""
    return version.split(".")[:2] == LINE.split(".")


def differences(modules: dict[str, ModuleType], contract: Iterable[Names] = CONTRACT) -> list[str]:
    """What the installed library lacks of the list, one line each; none when the engine can run on it."""
    return [line for names in contract for line in _missing(modules[names.module], names)]


def argument_fields(modules: dict[str, ModuleType]) -> frozenset[str]:
    """The names of all arguments that the installed library's LLM takes."""
    return frozenset(_fields(modules[f"{PACKAGE}.llmapi"].TorchLlmArgs))


def _missing(module: ModuleType, names: Names) -> Iterator[str]:
    where = f"{names.module}.{names.path}"
    found: Any = module
    for step in names.path.split("."):
        found = getattr(found, step, None)
        if found is None:
            yield f"there is no {where}"
            return
    match names.kind:
        case "parameter":
            parameters = inspect.signature(found).parameters
            if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
                # It takes any name, itself or in the place of what it decorates.
                return
            has = set(parameters)
        case "field":
            has = set(_fields(found))
        case _:
            has = set(dir(found))
    for name in names.names:
        if name not in has:
            yield f"{where} has no {names.kind} {name}"


def _fields(found: Any) -> Iterable[str]:
    if dataclasses.is_dataclass(found):
        return [field.name for field in dataclasses.fields(found)]
    return list(getattr(found, "model_fields", ()))
