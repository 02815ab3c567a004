"""How to sample, as TensorRT-LLM takes it."""

from __future__ import annotations

from typing import Any

from services.inference.engines.engine import check_biases
from services.inference.engines.tensorrt_llm.options import TensorRtLlmOptions
from services.inference.model import GenerationRequest

_SEEDS = 2**63


def sampling_arguments(request: GenerationRequest, options: TensorRtLlmOptions, *, max_tokens: int) -> dict[str, Any]:
    """Keyword arguments of the library's SamplingParams, without those that need its own types.

    `max_tokens` is always there: the library's default is 32. So is a temperature: with none the library takes the
    likeliest token. Stop strings are not: it shows the start of one that several tokens spell. Nor is its own text
    asked for.
    """
    sampling = request.sampling
    temperature = options.temperature if sampling.temperature is None else sampling.temperature
    top_p = options.top_p if sampling.top_p is None else sampling.top_p
    arguments: dict[str, Any] = {"max_tokens": max_tokens, "detokenize": False}
    if temperature == 0 or top_p == 0:
        # The only way to say so that both of its samplers understand.
        arguments["top_k"] = 1
    else:
        arguments |= {"temperature": temperature, "top_p": top_p}
        if options.top_k:
            arguments["top_k"] = options.top_k
    if sampling.seed is not None:
        arguments["seed"] = sampling.seed % _SEEDS
    if sampling.presence_penalty:
        arguments["presence_penalty"] = sampling.presence_penalty
    if sampling.frequency_penalty:
        arguments["frequency_penalty"] = sampling.frequency_penalty
    if request.top_logprobs is not None or request.confidence:
        # 0 means none in some versions.
        arguments["logprobs"] = max(1, request.top_logprobs or 0)
    return arguments


def embedding_bias(bias: tuple[tuple[int, float], ...], *, vocabulary_size: int, torch: Any) -> Any:
    """What is added to the logits, as a tensor over the model's whole vocabulary.

    Raises:
        DomainError: INVALID_FIELD for a token that the model does not have.
    """
    check_biases(bias, vocabulary_size=vocabulary_size)
    tensor = torch.zeros(vocabulary_size, dtype=torch.float32)
    for token, value in bias:
        tensor[token] = value
    return tensor
