"""LLM: the entrance."""

from __future__ import annotations

import importlib
import itertools
import threading
from pathlib import Path
from typing import Any, ClassVar, Literal

from .llm_args import TorchLlmArgs
from .result import EmptyIterable, IterationResult, RequestOutput
from .runtime import Runtime
from .sampling_params import SamplingParams


class LLM:
    """Loads a model at once; what it is called with is checked as the library does it."""

    instances: ClassVar[list[LLM]] = []
    """All that were made, for tests."""

    def __init__(
        self,
        model: str | Path,
        tokenizer: Any = None,
        tokenizer_mode: Literal["auto", "slow"] = "auto",
        skip_tokenizer_init: bool = False,
        trust_remote_code: bool = False,
        tensor_parallel_size: int = 1,
        dtype: str = "auto",
        revision: str | None = None,
        tokenizer_revision: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.args = TorchLlmArgs(
            model=str(model),
            tokenizer=tokenizer,
            tokenizer_mode=tokenizer_mode,
            skip_tokenizer_init=skip_tokenizer_init,
            trust_remote_code=trust_remote_code,
            tensor_parallel_size=tensor_parallel_size,
            dtype=dtype,
            revision=revision,
            tokenizer_revision=tokenizer_revision,
            **kwargs,
        )
        if self.args.tensor_parallel_size * self.args.pipeline_parallel_size > 8:
            raise RuntimeError(f"Only 8 GPUs are available, but {self.args.tensor_parallel_size} are required.")
        self.tokenizer = importlib.import_module("transformers").AutoTokenizer.from_pretrained(str(tokenizer or model))
        self.runtime = Runtime(self.args, self.tokenizer)
        self.made_in = threading.current_thread().name
        self.requests: list[SamplingParams] = []
        """How each request was to be sampled, for tests."""
        self.shutdown_blocks = threading.Event()
        """Cleared, shutdown hangs until it is set."""
        self.shutdown_blocks.set()
        self._ids = itertools.count(1)
        self._is_shut_down = False
        LLM.instances.append(self)

    def generate_async(
        self,
        inputs: Any,
        sampling_params: SamplingParams | None = None,
        lora_request: Any = None,
        prompt_adapter_request: Any = None,
        streaming: bool = False,
        kv_cache_retention_config: Any = None,
        disaggregated_params: Any = None,
        _postproc_params: Any = None,
        scheduling_params: Any = None,
        cache_salt: str | None = None,
    ) -> RequestOutput:
        if self._is_shut_down:
            raise RuntimeError("LLM is shutting down")
        if sampling_params is None:
            sampling_params = SamplingParams()
        if not isinstance(sampling_params, SamplingParams):
            raise TypeError(f"The sampling_params must be type SamplingParams or None, but got {type(sampling_params)}")
        if not isinstance(inputs, dict) or "prompt_token_ids" not in inputs:
            raise TypeError(f"The inputs must be type str or list of int, but got {type(inputs)}")
        ids = inputs["prompt_token_ids"]
        if not self.args.enable_chunked_prefill and len(ids) > (self.args.max_num_tokens or 0):
            raise ValueError(f"The sum of prompt length ({len(ids)}) should not exceed max_num_tokens")
        self._expect_iterations()
        self.requests.append(sampling_params)
        output = RequestOutput._new(
            request_id=next(self._ids),
            prompt_token_ids=list(ids),
            sampling_params=sampling_params,
            _abort=self.runtime.abort,
            _on_error=self._on_error,
            _decode=self.tokenizer.decode,
        )
        self.runtime.add(output, sampling_params)
        return output

    def get_stats_async(self, timeout: float | None = 2) -> Any:
        return self._iterations(self.runtime.stats, timeout)

    def get_kv_cache_events_async(self, timeout: float | None = 2) -> Any:
        return self._iterations(self.runtime.events, timeout)

    def shutdown(self) -> None:
        self._is_shut_down = True
        self.shutdown_blocks.wait()
        self.runtime.stop()

    def _expect_iterations(self) -> None:
        runtime = self.runtime
        if runtime.stats is None or runtime.events is None:
            runtime.stats, runtime.events = IterationResult(), IterationResult()
        else:
            runtime.stats.mark_undone()
            runtime.events.mark_undone()

    @staticmethod
    def _iterations(result: IterationResult | None, timeout: float | None) -> Any:
        if result is None:
            return EmptyIterable()
        result.set_timeout(timeout)
        return result

    def _on_error(self, error: Exception) -> None:
        self._is_shut_down = True
        self.runtime.stop()
