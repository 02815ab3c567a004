"""The OpenAPI document: valid, complete, and as strict as the contracts."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from google.api import annotations_pb2
from openapi_spec_validator import validate

from tests.architecture.tree import ROOT, rpc_services

Json = dict[str, Any]


@pytest.fixture(scope="module")
def document() -> Json:
    loaded: Json = yaml.safe_load((ROOT / "gen" / "openapi" / "chatmesh.yaml").read_text())
    return loaded


def operations(document: Json) -> dict[str, Json]:
    return {
        operation["operationId"]: operation for methods in document["paths"].values() for operation in methods.values()
    }


def schema(document: Json, reference: Json) -> Json:
    found: Json = document["components"]["schemas"][reference["$ref"].rpartition("/")[2]]
    return found


def test_it_is_openapi(document: Json) -> None:
    validate(document)


def test_every_annotated_rpc_is_there_and_no_other(document: Json) -> None:
    http: Any = annotations_pb2.http  # its stub says that it is a plain field
    public = {
        f"{service.name}_{method.name}"
        for service in rpc_services().values()
        for method in service.method
        if method.options.HasExtension(http)
    }
    assert operations(document).keys() == public


def test_limits_of_the_contract_are_limits_of_the_schema(document: Json) -> None:
    send = operations(document)["ConversationService_SendMessage"]
    body = schema(document, send["requestBody"]["content"]["application/json"]["schema"])
    assert body["required"] == ["content"]
    assert "conversation_id" not in body["properties"], "it stands in the path"
    content = body["properties"]["content"]
    assert (content["minLength"], content["maxLength"], content["pattern"]) == (1, 100000, r"\S")
    assert body["properties"]["request_id"]["format"] == "uuid"
    sampling = schema(document, body["properties"]["sampling"])["properties"]
    assert (sampling["temperature"]["minimum"], sampling["temperature"]["maximum"]) == (0, 2)
    assert sampling["stop"]["maxItems"] == 8
    assert sampling["stop"]["items"] == {"type": "string", "minLength": 1, "maxLength": 256}
    assert sampling["seed"]["type"] == "string", "proto3 JSON writes 64-bit integers as strings"


def test_a_stream_is_server_sent_events(document: Json) -> None:
    stream = operations(document)["ConversationService_StreamMessage"]
    content = stream["responses"]["200"]["content"]
    assert list(content) == ["text/event-stream"]
    event = schema(document, content["text/event-stream"]["schema"])
    assert {"required": ["completed"]} in event["oneOf"]


def test_lists_take_their_page_from_the_query(document: Json) -> None:
    parameters = operations(document)["ConversationService_ListMessages"]["parameters"]
    places = {parameter["name"]: parameter["in"] for parameter in parameters}
    in_query = {"page_size", "page_token", "order", "leaf_message_id"}
    assert places == {"conversation_id": "path"} | dict.fromkeys(in_query, "query")
