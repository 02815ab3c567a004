"""What is asked of a model against what it can do."""

from __future__ import annotations

from typing import Any

import pytest

from services.inference.model import (
    Capability,
    GeneratedPiece,
    GenerationRequest,
    Message,
    ResponseForm,
    ResponseFormat,
    Role,
    Sampling,
    Tool,
    ToolOptions,
)
from services.inference.requirements import fit
from services.runtime.errors import DomainError, Reason

TOOLS = ToolOptions((Tool("look"),))
ALL = frozenset(Capability)


def request(sampling: Sampling | None = None, **options: Any) -> GenerationRequest:
    return GenerationRequest(
        key=1,
        generation_id="g",
        model="m",
        messages=(Message(Role.USER, "Hello"),),
        sampling=sampling or Sampling(),
        **options,
    )


@pytest.mark.parametrize(
    ("asked", "capability"),
    [
        (request(), Capability.CHAT),
        (request(tools=TOOLS), Capability.TOOLS),
        (request(top_logprobs=0), Capability.LOGPROBS),
        (request(Sampling(logit_bias=((1, 2.0),))), Capability.LOGIT_BIAS),
        (request(Sampling(presence_penalty=0.5)), Capability.PENALTIES),
        (request(Sampling(frequency_penalty=-0.5)), Capability.PENALTIES),
    ],
)
def test_what_it_cannot_do_is_refused_by_name(asked: GenerationRequest, capability: Capability) -> None:
    assert fit(asked, model="m", capabilities=ALL) is asked
    with pytest.raises(DomainError) as caught:
        fit(asked, model="m", capabilities=ALL - {capability})
    assert caught.value.reason is Reason.UNSUPPORTED_CAPABILITY
    assert caught.value.metadata == {"model": "m", "capability": capability.value}


def test_a_form_needs_json() -> None:
    asked = request(Sampling(response_format=ResponseFormat(ResponseForm.JSON_OBJECT)))
    assert fit(asked, model="m", capabilities=ALL) is asked
    with pytest.raises(DomainError) as caught:
        fit(asked, model="m", capabilities=ALL - {Capability.JSON})
    assert caught.value.reason is Reason.UNSUPPORTED_RESPONSE_FORMAT


@pytest.mark.parametrize(
    "asked",
    [
        {"sampling": Sampling(response_format=ResponseFormat(ResponseForm.JSON_OBJECT))},
        {"tools": TOOLS},
    ],
)
def test_what_has_a_form_is_not_continued(asked: dict[str, Any]) -> None:
    with pytest.raises(DomainError) as caught:
        fit(request(**asked, continuation=(GeneratedPiece("{"),)), model="m", capabilities=ALL)
    assert caught.value.reason is Reason.UNSUPPORTED_RESPONSE_FORMAT


def test_no_penalty_is_none() -> None:
    asked = request(Sampling(presence_penalty=0.0, frequency_penalty=0.0))
    assert fit(asked, model="m", capabilities=frozenset({Capability.CHAT})) is asked


def test_confidence_is_left_out_where_it_cannot_be_had() -> None:
    asked = request(confidence=True)
    assert fit(asked, model="m", capabilities=ALL) is asked
    assert not fit(asked, model="m", capabilities=frozenset({Capability.CHAT})).confidence
