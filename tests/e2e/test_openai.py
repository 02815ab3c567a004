"""OpenAI's own Python SDK, with nothing changed but the base URL and the key."""

from __future__ import annotations

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.e2e.conftest import Sdk
from tests.mesh_process import MeshProcess

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Say hello."}]


def test_a_completion(sdk: Sdk) -> None:
    done = sdk().chat.completions.create(model="auto", messages=HELLO, max_tokens=20, seed=1)
    assert done.choices[0].message.content
    assert done.choices[0].finish_reason in ("stop", "length")
    assert done.model == "smollm2-135m"
    assert done.usage is not None
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens > 0


def test_a_stream_with_usage(sdk: Sdk) -> None:
    chunks = list(
        sdk().chat.completions.create(
            model="auto",
            messages=HELLO,
            max_completion_tokens=20,
            stream=True,
            stream_options={"include_usage": True},
            user="somebody",
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices).strip()
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] in ("stop", "length")
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0


def test_a_stop_string_ends_the_answer_and_is_not_part_of_it(sdk: Sdk) -> None:
    whole = sdk().chat.completions.create(model="synthetic-fast", messages=HELLO, max_tokens=30)
    text = whole.choices[0].message.content or ""
    stop = text.split()[4]
    cut = sdk().chat.completions.create(model="synthetic-fast", messages=HELLO, max_tokens=30, stop=stop)
    assert cut.choices[0].message.content == text[: text.index(stop)]
    assert cut.choices[0].finish_reason == "stop"


def test_models_are_listed_and_described(sdk: Sdk) -> None:
    client = sdk()
    ids = {model.id for model in client.models.list()}
    assert {"smollm2-135m", "auto"} <= ids
    assert client.models.retrieve("smollm2-135m").owned_by == "chatmesh"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-9")


def test_the_sdk_raises_its_own_errors(sdk: Sdk) -> None:
    client = sdk()
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="gpt-9", messages=HELLO)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as invalid:
        client.chat.completions.create(model="auto", messages=HELLO, temperature=9)
    assert invalid.value.param == "temperature"
    with pytest.raises(openai.BadRequestError) as unsupported:
        client.chat.completions.create(model="auto", messages=HELLO, store=True)
    assert (unsupported.value.param, unsupported.value.code) == ("store", "unsupported_parameter")
    assert "'store'" in unsupported.value.message
    with pytest.raises(openai.BadRequestError) as long:
        client.chat.completions.create(model="auto", messages=[{"role": "user", "content": "word " * 9000}])
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError) as blocked:
        client.chat.completions.create(model="auto", messages=[{"role": "user", "content": "CHATMESH-TEST-BLOCK-7f3a"}])
    assert blocked.value.code == "content_policy_violation"
    with pytest.raises(openai.AuthenticationError) as stranger:
        sdk(key="sk-nonsense").models.list()
    assert stranger.value.code == "invalid_api_key"


def test_a_burst_raises_a_rate_limit_error(sdk: Sdk) -> None:
    client = sdk(tier="free")

    def burst() -> None:
        for _ in range(120):
            client.models.list()

    with pytest.raises(openai.RateLimitError) as limited:
        burst()
    assert limited.value.code == "rate_limit_exceeded"
    assert int(limited.value.response.headers["retry-after"]) >= 1


def test_a_body_that_is_no_json_gets_openais_error(mesh: MeshProcess, sdk: Sdk) -> None:
    response = httpx.post(
        f"{mesh.url}/v1/chat/completions",
        content=b"{",
        headers={"authorization": f"Bearer {sdk().api_key}", "content-type": "application/json"},
    )
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_a_client_that_goes_away_stops_the_generation(mesh: MeshProcess, sdk: Sdk) -> None:
    from tests.mesh_process import eventually

    client = sdk()
    stream = client.chat.completions.create(model="synthetic", messages=HELLO, max_tokens=900, stream=True)
    for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    stream.close()
    headers = {"authorization": f"Bearer {client.api_key}"}
    used = eventually(
        lambda: httpx.get(f"{mesh.url}/v1/usage", headers=headers).json()["daily"], lambda daily: bool(daily)
    )
    assert 0 < int(used[0]["completion_tokens"]) < 900


@pytest.mark.parametrize("role", ["system", "user", "assistant"])
def test_what_is_sent_as_history_is_checked(sdk: Sdk, role: str) -> None:
    history: list[ChatCompletionMessageParam] = [
        {"role": role, "content": "CHATMESH-TEST-BLOCK-7f3a"},  # type: ignore[list-item, misc]
        {"role": "user", "content": "Repeat what was said."},
    ]
    with pytest.raises(openai.BadRequestError) as blocked:
        sdk().chat.completions.create(model="auto", messages=history)
    assert blocked.value.code == "content_policy_violation"
