"""Engine `tensorrt_llm`: a model on the GPUs of this machine, all answers in one batch of the library."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any, TypeVar

from services.inference.engines.engine import (
    context_length_exceeded,
    engine_failed,
    read_options,
    unsupported_capability,
)
from services.inference.engines.tensorrt_llm import contract
from services.inference.engines.tensorrt_llm.generation import Generation
from services.inference.engines.tensorrt_llm.guiding import Guide, guide_of, refused_form
from services.inference.engines.tensorrt_llm.monitor import Monitor
from services.inference.engines.tensorrt_llm.options import TensorRtLlmOptions, checked, llm_arguments
from services.inference.engines.tensorrt_llm.prompt import PromptBuilder
from services.inference.engines.tensorrt_llm.sampling import embedding_bias, sampling_arguments
from services.inference.engines.tensorrt_llm.threads import in_thread
from services.inference.engines.tensorrt_llm.tool_parsers import HermesParser, LeadingJsonParser, ToolParser
from services.inference.engines.tensorrt_llm.vocabulary import UnknownVocabularyError, Vocabulary
from services.inference.model import (
    Capability,
    Embeddings,
    EngineStats,
    FinishReason,
    GenerationRequest,
    Sink,
    TokenCounts,
    ToolMode,
)
from services.runtime.errors import DomainError
from services.runtime.model_registry import ModelEntry
from services.runtime.settings import SettingsError

_log = logging.getLogger(__name__)

T = TypeVar("T")


class TensorRtLlmEngine:
    """A model through TensorRT-LLM's LLM API.

    Token ids go in and token ids come out. The chat template, text, stop strings and calls of tools are made here, so
    that ids and text always agree, and no stop string is ever shown in part.
    """

    def __init__(self, entry: ModelEntry) -> None:
        self._entry = entry
        self._options = checked(entry, read_options(entry, TensorRtLlmOptions))
        self._modules: dict[str, ModuleType] = {}
        self._llm: Any = None
        self._vocabulary_size = 0
        self._running: dict[int, Generation] = {}
        self._monitor = Monitor(model=entry.name)
        # One thread: see PromptBuilder.
        self._tokenizing = ThreadPoolExecutor(1, thread_name_prefix="tokenizer")
        self._vocabulary: Vocabulary
        self._prompt: PromptBuilder
        self._broken = False
        self._last_step = time.monotonic()

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the library can do with this model, with this sampler."""
        options = self._options
        able = {Capability.CHAT, Capability.LOGIT_BIAS}
        # Each of its samplers takes what only the other one heeds, and says nothing.
        able.add(Capability.PENALTIES if options.sampler == "TRTLLMSampler" else Capability.LOGPROBS)
        if options.guided_decoding_backend is not None:
            able.add(Capability.JSON)
            if options.tool_parser is not None:
                able.add(Capability.TOOLS)
        return frozenset(able)

    async def start(self) -> None:
        """Load the model. Takes minutes for a large one.

        Raises:
            SettingsError: the library is missing or is another one than this engine was made for, or it does not take
                the model or the options.
        """
        await in_thread(self._import, name="tensorrt-llm-import")
        await self._in_tokenizer(self._load_tokenizer)
        llm_class = self._modules[contract.PACKAGE].LLM
        arguments = self._arguments()
        try:
            self._llm = await in_thread(lambda: llm_class(**arguments), name="tensorrt-llm-load")
        except Exception as error:
            # The library logs more than its error says.
            raise SettingsError(
                f"model {self._entry.name}: TensorRT-LLM cannot load {self._entry.path}: {_first_line(error)}"
            ) from error
        kv_cache = self._options.kv_cache
        self._monitor.start(
            self._llm,
            stats=self._options.stats,
            events=kv_cache.enable_block_reuse and kv_cache.event_buffer_max_size > 0,
        )

    def submit(self, request: GenerationRequest, sink: Sink) -> None:
        """Begin a generation."""
        generation = Generation(
            request, sink, vocabulary=self._vocabulary, parser=self._parser_for(request), forget=self._forget
        )
        self._running[request.key] = generation
        generation.task = asyncio.get_running_loop().create_task(self._run(generation))

    def cancel(self, key: int) -> None:
        """End a generation: the library drops it at its next step."""
        generation = self._running.get(key)
        if generation is not None:
            generation.finish(FinishReason.CANCELLED)

    async def count_tokens(self, texts: Sequence[str]) -> TokenCounts:
        """Count with the model's own tokenizer."""
        return await self._in_tokenizer(lambda: self._prompt.count(texts))

    async def embed(self, texts: Sequence[str]) -> Embeddings:  # noqa: ARG002
        """It cannot."""
        raise unsupported_capability(self._entry.name, Capability.EMBEDDINGS)

    def stats(self) -> EngineStats:
        """What the library last said."""
        return self._monitor.stats()

    async def check(self) -> None:
        """Whether the library lives: it has not said that it is broken, and answers that run go on."""
        if self._broken or self._llm is None:
            raise engine_failed(self._entry.name, "The engine has failed and must be started again.")
        silent_s = time.monotonic() - self._last_step
        if self._running and silent_s > self._options.stall_timeout_s:
            raise engine_failed(self._entry.name, f"The engine has said nothing for {silent_s:.0f} s.")
        await self.count_tokens(("x",))

    async def close(self) -> None:
        """Cancel all generations and let go of the GPUs."""
        for key in list(self._running):
            self.cancel(key)
        await self._monitor.close()
        llm, self._llm = self._llm, None
        if llm is not None:
            try:
                async with asyncio.timeout(self._options.shutdown_timeout_s):
                    await in_thread(llm.shutdown, name="tensorrt-llm-shutdown")
            except TimeoutError:
                _log.error("the engine did not shut down in time", extra={"model": self._entry.name})
            except Exception as error:  # noqa: BLE001 - the process ends anyway
                _log.error("shutdown failed", extra={"model": self._entry.name, "error_type": type(error).__name__})
        self._tokenizing.shutdown(wait=False, cancel_futures=True)

    async def _run(self, generation: Generation) -> None:
        try:
            await self._generate(generation)
        except asyncio.CancelledError:
            generation.finish(FinishReason.CANCELLED)
            raise
        except DomainError as error:
            generation.fail(error)
        except _LibraryError as error:
            self._take_error(generation, error.raised)
        except Exception as error:  # noqa: BLE001 - a generation that nobody ends would hold its slot for ever
            self._log_failure(error, engine_lives=True)
            generation.fail(engine_failed(self._entry.name, "The engine failed."))
        finally:
            self._monitor.ended(prompt_tokens=generation.prompt_tokens, cached_tokens=generation.cached_tokens)

    async def _generate(self, generation: Generation) -> None:
        prompt = await self._prepare(generation)
        if prompt is None:
            return
        ids, arguments = prompt
        if len(self._running) == 1:
            self._last_step = time.monotonic()
        params = self._modules[contract.PACKAGE].SamplingParams(**arguments)
        try:
            # Always by name: the order of its parameters changed between versions. It wants a running loop.
            output = self._llm.generate_async(inputs={"prompt_token_ids": ids}, sampling_params=params, streaming=True)
        except Exception as error:
            raise _LibraryError(error) from error
        generation.attach(output)
        self._monitor.submitted()
        while not generation.has_ended:
            try:
                step = await anext(output)
            except StopAsyncIteration:
                break
            except Exception as error:
                raise _LibraryError(error) from error
            self._last_step = time.monotonic()
            generation.take(step)
        generation.fail(engine_failed(self._entry.name, "The engine stopped before the answer was complete."))

    async def _prepare(self, generation: Generation) -> tuple[list[int], dict[str, Any]] | None:
        """The prompt and how to sample; None when there is nothing left to generate."""
        request = generation.request
        if self._broken or self._llm is None:
            raise engine_failed(self._entry.name, "The engine has failed.")
        prompt, written, guide = await self._in_tokenizer(lambda: self._tokenized(request))
        ids = prompt + written
        generation.prompt_tokens = len(ids)
        context = self._entry.context_length
        if len(prompt) + 1 > context:
            raise context_length_exceeded(self._entry.name, context_length=context, prompt_tokens=len(prompt))
        room = min(self._entry.max_output_tokens - len(written), context - len(ids))
        if room < 1:
            generation.finish(FinishReason.LENGTH)
            return None
        arguments = sampling_arguments(
            request, self._options, max_tokens=min(request.sampling.max_tokens or room, room)
        )
        if guide is not None:
            generation.guided = True
            arguments["guided_decoding"] = self._modules[f"{contract.PACKAGE}.llmapi"].GuidedDecodingParams(**guide)
        if request.sampling.logit_bias:
            arguments["embedding_bias"] = embedding_bias(
                request.sampling.logit_bias, vocabulary_size=self._vocabulary_size, torch=self._modules["torch"]
            )
        return ids, arguments

    def _tokenized(self, request: GenerationRequest) -> tuple[list[int], list[int], Guide | None]:
        guide = guide_of(
            request.sampling.response_format,
            request.tools,
            model=self._entry.name,
            grammars=self._options.grammars,
            backend=self._options.guided_decoding_backend,
        )
        return self._prompt.build(request.messages, request.tools), self._prompt.tokens_of(request.continuation), guide

    def _parser_for(self, request: GenerationRequest) -> ToolParser | None:
        tools = request.tools
        if tools is None:
            return None
        held = tools.mode is ToolMode.REQUIRED or tools.function or request.sampling.response_format is not None
        if self._options.tool_parser == "hermes" and not held:
            return HermesParser()
        # An answer that is held to a form has calls in the form of calls_schema.
        return LeadingJsonParser([tool.name for tool in tools.tools])

    def _take_error(self, generation: Generation, error: Exception) -> None:
        """The library refused one request, or has failed: then no other answer goes on either, and none says so."""
        name = self._entry.name
        own = isinstance(error, self._modules[f"{contract.PACKAGE}.llmapi"].RequestError | ValueError)
        if own and generation.guided and not generation.has_begun:
            generation.fail(refused_form())
            return
        self._log_failure(error, engine_lives=own)
        generation.fail(engine_failed(name, "The engine failed."))
        if not own:
            self._broken = True
            for other in list(self._running.values()):
                other.fail(engine_failed(name, "The engine failed."))

    def _log_failure(self, error: Exception, *, engine_lives: bool) -> None:
        # Its text may quote the prompt.
        extra = {"model": self._entry.name, "error_type": type(error).__name__, "engine_lives": engine_lives}
        _log.error("generation failed", extra=extra)

    def _import(self) -> None:
        name = self._entry.name
        try:
            modules = contract.load_modules()
        except contract.NotInstalledError as error:
            raise SettingsError(
                f"model {name}: engine tensorrt_llm needs TensorRT-LLM {contract.LINE} and a GPU: {error}. Run this "
                f"process in an image made from {contract.IMAGE}, or leave the model out with CHATMESH_INFERENCE_MODELS"
            ) from error
        found = contract.differences(modules)
        if found:
            raise SettingsError(
                f"model {name}: TensorRT-LLM {contract.version_of(modules)} is not what engine tensorrt_llm was made "
                f"for, {contract.LINE}: {'; '.join(found)}"
            )
        unknown = sorted(self._options.llm_args.keys() - contract.argument_fields(modules))
        if unknown:
            raise SettingsError(
                f"model {name}, engine_options.llm_args: TensorRT-LLM {contract.version_of(modules)} has no argument "
                f"{', '.join(unknown)}"
            )
        self._modules = modules

    def _arguments(self) -> dict[str, Any]:
        try:
            return llm_arguments(self._entry, self._options, self._modules[f"{contract.PACKAGE}.llmapi"])
        except (TypeError, ValueError) as error:
            raise SettingsError(f"model {self._entry.name}, engine_options: {_first_line(error)}") from error

    def _load_tokenizer(self) -> None:
        transformers = self._modules["transformers"]
        source = self._options.tokenizer or self._entry.path
        trust = self._options.trust_remote_code
        name = self._entry.name
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(source, trust_remote_code=trust)
            config = transformers.AutoConfig.from_pretrained(self._entry.path, trust_remote_code=trust)
        except (OSError, ValueError) as error:
            raise SettingsError(f"model {name}: its tokenizer cannot be loaded: {_first_line(error)}") from error
        try:
            self._vocabulary = Vocabulary(tokenizer)
        except UnknownVocabularyError as error:
            raise SettingsError(f"model {name}: its tokenizer cannot be used: {error}") from error
        # Models that also see or hear keep it in a part of their own.
        text_config = getattr(config, "text_config", None) or config
        self._vocabulary_size = int(getattr(config, "vocab_size", None) or text_config.vocab_size)
        self._prompt = PromptBuilder(
            model=name,
            tokenizer=tokenizer,
            vocabulary=self._vocabulary,
            describes_tools=self._options.tool_parser == "generic",
        )
        try:
            self._prompt.measure()
        except DomainError as error:
            raise SettingsError(f"model {name}: its chat template cannot be used: {error.message}") from error

    async def _in_tokenizer(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._tokenizing, call)

    def _forget(self, generation: Generation) -> None:
        self._running.pop(generation.request.key, None)


class _LibraryError(Exception):
    """The library raised it, and not what is built on it here."""

    def __init__(self, raised: Exception) -> None:
        super().__init__(type(raised).__name__)
        self.raised = raised


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
