"""A model as it is checked: how its entry is changed for that, and what is known of its engine beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.inference.conformance.subject import Subject
from services.inference.engines.engine import Engine, read_options
from services.inference.engines.openai.engine import OpenAIEngine
from services.inference.engines.synthetic_options import SyntheticOptions
from services.inference.model import Capability
from services.runtime.model_registry import ModelEntry

_MAX_CONTEXT, _MAX_OUTPUT, _MIN_OUTPUT, _MAX_SLOTS = 2048, 128, 64, 16
"""Of a model while it is checked: cases run into its limits, those of a large one take hours, and below the least a
case has no room."""

_SYNTHETIC: Mapping[str, Any] = {
    "tokens_per_second": 0,
    "time_to_first_token_ms": 0,
    "prefill_tokens_per_second": 0,
    "slow_file": None,
    "kv_cache_tokens": 0,
    "answer": "",
    "answer_tokens": 8 * _MAX_OUTPUT,
}
"""Cases wait for many answers that run into the limit, and look at what is cached. What fails or falls silent by its
options does so here, too."""

_WORDS = ("hello", " hello", "the", " the", "a", "1")
"""One of them is a token of its own in nearly every vocabulary."""


def entry_to_check(entry: ModelEntry) -> ModelEntry:
    """The entry, small and fast enough to be checked.

    Raises:
        SettingsError: it has options that are wrong, and that it would not have any more.
    """
    output = max(min(entry.max_output_tokens, _MAX_OUTPUT), min(_MIN_OUTPUT, entry.context_length))
    changed: dict[str, Any] = {"max_output_tokens": output, "slots": min(entry.slots, _MAX_SLOTS)}
    if entry.engine != "openai":
        # A server keeps to its own context, whatever the entry says.
        changed["context_length"] = min(entry.context_length, _MAX_CONTEXT)
    if entry.engine == "synthetic":
        read_options(entry, SyntheticOptions)
        changed["engine_options"] = {**entry.engine_options, **_SYNTHETIC}
    return entry.model_copy(update=changed)


async def subject_of(engine: Engine, entry: ModelEntry) -> Subject:
    """A started engine, and what is known of it that its capabilities do not say.

    Raises:
        DomainError: its server fails.
    """
    if isinstance(engine, OpenAIEngine):
        return await _behind_a_server(engine, entry)
    if entry.engine == "synthetic":
        return Subject(engine=engine, entry=entry, deterministic=True)
    # Kernels of TensorRT-LLM are chosen by the size of the batch and by what is cached, and differ in the last bits.
    return Subject(engine=engine, entry=entry, repeats=entry.engine != "tensorrt_llm")


async def _behind_a_server(engine: OpenAIEngine, entry: ModelEntry) -> Subject:
    options = engine.options
    counts = options.tokenizer == "server"
    known = await _known_token(engine) if counts and Capability.LOGIT_BIAS in engine.capabilities else None
    return Subject(
        engine=engine,
        entry=entry,
        repeats=False,
        continues=options.continuation != "none",
        context_is_small=entry.context_length <= _MAX_CONTEXT,
        counts_tokens=counts,
        gives_token_ids=False,
        # Others say nothing of their caches, or cache long prompts only.
        tells_cached_tokens=True if options.chunk_counts == "llama_cpp" else None,
        known_token=known,
    )


async def _known_token(engine: OpenAIEngine) -> tuple[int, str] | None:
    for word in _WORDS:
        ids = await engine.token_ids(word)
        if len(ids) == 1:
            return ids[0], word
    return None
