"""What a request needs of a model, against what the model can do on its engine."""

from __future__ import annotations

from dataclasses import replace

from services.inference.engines.engine import unsupported_capability, unsupported_response_format
from services.inference.model import Capability, GenerationRequest


def fit(request: GenerationRequest, *, model: str, capabilities: frozenset[Capability]) -> GenerationRequest:
    """The request as the engine may be asked it. `confidence` is a wish, and is left out where it cannot be had.

    Raises:
        DomainError: UNSUPPORTED_CAPABILITY, naming the first that is missing; UNSUPPORTED_RESPONSE_FORMAT where the
            answer cannot be held to its form.
    """
    for capability in _needed(request):
        if capability not in capabilities:
            raise unsupported_capability(model, capability)
    if request.sampling.response_format is not None and Capability.JSON not in capabilities:
        raise unsupported_response_format(model, f"{model} cannot hold an answer to a form.")
    if request.continuation and (request.sampling.response_format is not None or request.tools is not None):
        # No engine can take up a grammar in the middle, and a call of a tool is held to one.
        raise unsupported_response_format(
            model, "An answer that must have a form, or may call tools, is not continued; generate it again."
        )
    if request.confidence and Capability.LOGPROBS not in capabilities:
        return replace(request, confidence=False)
    return request


def _needed(request: GenerationRequest) -> list[Capability]:
    sampling = request.sampling
    asked = {
        Capability.CHAT: True,
        Capability.TOOLS: request.tools is not None,
        Capability.LOGPROBS: request.top_logprobs is not None,
        Capability.LOGIT_BIAS: bool(sampling.logit_bias),
        Capability.PENALTIES: bool(sampling.presence_penalty or sampling.frequency_penalty),
    }
    return [capability for capability, needed in asked.items() if needed]
