"""What a model's entry says to TensorRT-LLM, and the arguments of its LLM that come of it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.runtime.model_registry import ModelEntry
from services.runtime.settings import SettingsError

ToolFormat = Literal["hermes", "llama3_json", "generic"]


class KvCacheOptions(BaseModel):
    """The KV cache. See KvCacheConfig of the library."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    free_gpu_memory_fraction: float = Field(0.9, gt=0, lt=1, description="of what the weights leave free")
    dtype: Literal["auto", "fp8"] = Field("auto", description="fp8 holds twice as many tokens; needs Hopper or later")
    enable_block_reuse: bool = Field(True, description="prompts that begin alike are computed once")
    host_cache_size: int = Field(0, ge=0, description="bytes of host memory for blocks that leave the GPU")
    event_buffer_max_size: int = Field(
        1024, ge=0, description="events about blocks that are kept until they are read; 0 has none"
    )
    tokens_per_block: int = Field(32, ge=1, description="a power of two; what is reused is whole blocks")


class CudaGraphOptions(BaseModel):
    """CUDA graphs of decoding steps. See CudaGraphConfig of the library."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    max_batch_size: int = Field(0, ge=0, description="largest batch that has a graph; 0 takes that of the model")
    enable_padding: bool = Field(True, description="smaller batches use the next larger graph")


class TensorRtLlmOptions(BaseModel):
    """`engine_options` of a tensorrt_llm model. Weights that are FP8 say so themselves, in their checkpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    tensor_parallel_size: int = Field(1, ge=1, description="GPUs that share each layer")
    pipeline_parallel_size: int = Field(1, ge=1, description="groups of GPUs that share the layers")
    moe_expert_parallel_size: int | None = Field(None, ge=1, description="GPUs that share the experts of a MoE model")
    moe_backend: str = Field("", description="kernels of a MoE model, such as CUTLASS; empty leaves it to the library")
    max_batch_size: int = Field(0, ge=0, description="answers in one step; 0 takes the entry's slots")
    max_num_tokens: int = Field(8192, ge=1, description="tokens of all answers in one step")
    enable_chunked_prefill: bool = Field(
        True, description="long prompts are computed in parts, between the steps of running answers"
    )
    stream_interval: int = Field(1, ge=1, description="tokens per message from the GPU; 4 to 8 for large batches")
    kv_cache: KvCacheOptions = KvCacheOptions()
    cuda_graph: CudaGraphOptions | None = CudaGraphOptions()
    sampler: Literal["auto", "TorchSampler", "TRTLLMSampler"] = Field(
        "auto",
        description="in 1.2 only TRTLLMSampler heeds penalties and seeds, and only the other one, which auto is, gives "
        "log-probabilities of all the likeliest tokens",
    )
    guided_decoding_backend: Literal["xgrammar", "llguidance"] | None = Field(
        "xgrammar", description="what holds answers to a schema; null cannot"
    )
    grammars: bool = Field(False, description="takes grammars from callers beside JSON Schemas: for trusted callers")
    tool_parser: ToolFormat | None = Field(
        None, description="how the model writes calls of tools: hermes (Qwen, Hermes), llama3_json, or generic"
    )
    tokenizer: str = Field("", description="path or id of another tokenizer than the model's")
    trust_remote_code: bool = Field(False, description="runs Python that comes with the model")
    temperature: float = Field(1.0, ge=0, le=2, description="default when a request names none")
    top_p: float = Field(1.0, gt=0, le=1, description="default when a request names none")
    top_k: int = Field(0, ge=0, description="0 takes all tokens")
    stats: bool = Field(True, description="asks the library for its load; costs a little per step")
    stall_timeout_s: float = Field(
        60.0, gt=0, description="the engine counts as broken when answers run and none has gone on for so long"
    )
    shutdown_timeout_s: float = Field(30.0, gt=0, description="longest wait for the library to let go of the GPUs")
    llm_args: dict[str, Any] = Field(
        default_factory=dict,
        description="further arguments of the library's LLM, as they stand; names that it does not know are refused",
    )


def checked(entry: ModelEntry, options: TensorRtLlmOptions) -> TensorRtLlmOptions:
    """The options, when they fit the entry and each other.

    Raises:
        SettingsError: naming the model and what to change.
    """
    if not entry.path:
        raise SettingsError(f"model {entry.name}: engine tensorrt_llm needs a path: a folder, or an id of Hugging Face")
    if not options.enable_chunked_prefill and options.max_num_tokens < entry.context_length:
        raise SettingsError(
            f"model {entry.name}, engine_options: without enable_chunked_prefill a prompt must fit in one step: "
            f"max_num_tokens is {options.max_num_tokens} and context_length {entry.context_length}"
        )
    taken = sorted(set(options.llm_args) & _OURS)
    if taken:
        raise SettingsError(
            f"model {entry.name}, engine_options.llm_args: {', '.join(taken)} is set by an option or by the entry"
        )
    return options


_OURS = frozenset(
    {
        "cuda_graph_config", "enable_chunked_prefill", "enable_iter_perf_stats", "guided_decoding_backend",
        "kv_cache_config", "max_batch_size", "max_num_tokens", "max_seq_len", "model", "moe_config",
        "moe_expert_parallel_size", "pipeline_parallel_size", "sampler_type", "skip_tokenizer_init",
        "stream_interval", "tensor_parallel_size", "tokenizer", "trust_remote_code",
    }
)  # fmt: skip


def llm_arguments(entry: ModelEntry, options: TensorRtLlmOptions, llmapi: Any) -> dict[str, Any]:
    """Keyword arguments of the library's LLM. Sizes are always named: their defaults change between versions."""
    batch = options.max_batch_size or entry.slots
    kv_cache = options.kv_cache
    arguments: dict[str, Any] = {
        "model": entry.path,
        "trust_remote_code": options.trust_remote_code,
        "tensor_parallel_size": options.tensor_parallel_size,
        "pipeline_parallel_size": options.pipeline_parallel_size,
        "max_batch_size": batch,
        "max_num_tokens": options.max_num_tokens,
        "max_seq_len": entry.context_length,
        "enable_chunked_prefill": options.enable_chunked_prefill,
        "stream_interval": options.stream_interval,
        "sampler_type": options.sampler,
        "enable_iter_perf_stats": options.stats,
        "kv_cache_config": llmapi.KvCacheConfig(
            free_gpu_memory_fraction=kv_cache.free_gpu_memory_fraction,
            dtype=kv_cache.dtype,
            enable_block_reuse=kv_cache.enable_block_reuse,
            event_buffer_max_size=kv_cache.event_buffer_max_size if kv_cache.enable_block_reuse else 0,
            tokens_per_block=kv_cache.tokens_per_block,
            **({"host_cache_size": kv_cache.host_cache_size} if kv_cache.host_cache_size else {}),
        ),
        "cuda_graph_config": None,
    }
    if options.cuda_graph is not None:
        arguments["cuda_graph_config"] = llmapi.CudaGraphConfig(
            max_batch_size=options.cuda_graph.max_batch_size or batch,
            enable_padding=options.cuda_graph.enable_padding,
        )
    if options.tokenizer:
        arguments["tokenizer"] = options.tokenizer
    if options.guided_decoding_backend is not None:
        arguments["guided_decoding_backend"] = options.guided_decoding_backend
    if options.moe_expert_parallel_size is not None:
        arguments["moe_expert_parallel_size"] = options.moe_expert_parallel_size
    if options.moe_backend:
        arguments["moe_config"] = llmapi.MoeConfig(backend=options.moe_backend)
    return arguments | options.llm_args
