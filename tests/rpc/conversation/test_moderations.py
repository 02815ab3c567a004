"""Texts that are judged and go nowhere, in OpenAI's shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from chatmesh.moderation.v1 import moderation_service_pb2
from services.conversation.openai_moderations import MAX_TEXTS, OPENAI_CATEGORIES
from services.runtime.errors import DomainError, Reason
from tests.rpc.conversation.openai_calls import Client
from tests.rpc.conversation.stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="session")

NOTHING: Mapping[str, float] = {"harassment": 0.01, "sexual/minors": 0.0, "jailbreak": 0.02}
THREAT: Mapping[str, float] = {"harassment": 0.97, "sexual/minors": 0.0, "jailbreak": 0.5}
LIMIT = 0.9


def judged(*texts: Mapping[str, float]) -> moderation_service_pb2.ClassifyResponse:
    return moderation_service_pb2.ClassifyResponse(
        classifications=[
            moderation_service_pb2.Classification(
                flagged=any(score > LIMIT for score in scores.values()),
                categories=[
                    moderation_service_pb2.CategoryScore(category=name, flagged=score > LIMIT, score=score)
                    for name, score in scores.items()
                ],
            )
            for scores in texts
        ],
        policy_version="p1",
        classifier_version="c7",
    )


async def test_each_text_is_judged(stage: Stage) -> None:
    stage.moderation.classify.queue(judged(NOTHING, THREAT))
    body = await Client(stage.channel).moderate(input=["Hello", "I will get you"], model="omni-moderation-latest")
    [request] = stage.moderation.classify.requests
    assert list(request.texts) == ["Hello", "I will get you"]
    assert body["id"].startswith("modr-")
    assert body["model"] == "chatmesh-moderation-c7"
    first, second = body["results"]
    assert (first["flagged"], second["flagged"]) == (False, True)
    assert second["categories"]["harassment"] is True
    assert second["category_scores"]["jailbreak"] == 0.5
    for result in body["results"]:
        names = result["categories"].keys()
        assert names == {*OPENAI_CATEGORIES, "jailbreak"}
        assert names == result["category_scores"].keys() == result["category_applied_input_types"].keys()
        # What the policy does not tell apart is not claimed to have been looked for.
        assert result["categories"]["harassment/threatening"] is False
        assert result["category_scores"]["harassment/threatening"] == 0.0
        applied = result["category_applied_input_types"]
        assert (applied["harassment"], applied["harassment/threatening"]) == (["text"], [])


@pytest.mark.parametrize(
    ("given", "texts"),
    [
        ("Hello", ["Hello"]),
        ([{"type": "text", "text": "Hello"}], ["Hello"]),
        ([{"type": "text", "text": "I will"}, {"type": "text", "text": "get you"}], ["I will\nget you"]),
    ],
)
async def test_what_is_one_text(stage: Stage, given: Any, texts: list[str]) -> None:
    stage.moderation.classify.queue(judged(NOTHING))
    body = await Client(stage.channel).moderate(input=given)
    assert list(stage.moderation.classify.requests[0].texts) == texts
    assert len(body["results"]) == 1


@pytest.mark.parametrize("model", ["", "text-moderation-stable", "chatmesh-moderation", "chatmesh-moderation-c7"])
async def test_whatever_is_asked_by_a_name_that_is_known_is_answered_by_what_is_here(stage: Stage, model: str) -> None:
    stage.moderation.classify.queue(judged(NOTHING))
    body = await Client(stage.channel).moderate(input="Hello", model=model)
    assert body["model"] == "chatmesh-moderation-c7"


async def test_another_version_than_the_one_that_is_here(stage: Stage) -> None:
    stage.moderation.classify.queue(judged(NOTHING))
    with pytest.raises(DomainError) as refused:
        await Client(stage.channel).moderate(input="Hello", model="chatmesh-moderation-c6")
    assert refused.value.reason is Reason.MODEL_NOT_FOUND
    assert "chatmesh-moderation-c7" in refused.value.metadata["known_models"]


async def test_a_model_that_nobody_knows(stage: Stage) -> None:
    with pytest.raises(DomainError) as refused:
        await Client(stage.channel).moderate(input="Hello", model="gpt-4o")
    assert refused.value.reason is Reason.MODEL_NOT_FOUND


@pytest.mark.parametrize(
    ("fields", "reason", "param"),
    [
        ({}, Reason.INVALID_BODY, "input"),
        ({"input": ""}, Reason.INVALID_BODY, "input"),
        ({"input": []}, Reason.INVALID_BODY, "input"),
        ({"input": ["x", 1]}, Reason.INVALID_BODY, "input.1"),
        ({"input": ["x"] * (MAX_TEXTS + 1)}, Reason.INVALID_BODY, "input"),
        ({"input": ["x" * 200_000] * 5}, Reason.INVALID_BODY, "input"),
        ({"input": "x", "threshold": 1}, Reason.UNSUPPORTED_PARAMETER, "threshold"),
        (
            {"input": [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": "data:"}}]},
            Reason.UNSUPPORTED_PARAMETER,
            "input.1.image_url",
        ),
    ],
)
async def test_what_is_refused_by_name(stage: Stage, fields: dict[str, Any], reason: Reason, param: str) -> None:
    with pytest.raises(DomainError) as refused:
        await Client(stage.channel).moderate(**fields)
    assert (refused.value.reason, refused.value.metadata["param"]) == (reason, param)


async def test_a_judge_that_refuses(stage: Stage) -> None:
    stage.moderation.classify.queue(DomainError(Reason.DEADLINE_EXCEEDED, "too slow"))
    with pytest.raises(DomainError) as refused:
        await Client(stage.channel).moderate(input="Hello")
    assert refused.value.reason is Reason.DEADLINE_EXCEEDED
