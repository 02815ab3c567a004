"""The operations of the REST surface, as google.api.http declares them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from google.api import annotations_pb2, http_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions

from tools.openapi.schemas import Schema, SchemaBook, field_limits
from tools.openapi.source import Source

_VARIABLE = re.compile(r"\{([a-z0-9_.]+)(?:=([^}]*))?\}")
_HTTP_BODY = "google.api.HttpBody"


@dataclass(frozen=True, slots=True)
class Binding:
    """One HTTP method and path of an RPC."""

    verb: str
    path: str
    variables: tuple[str, ...]
    """Fields of the request that stand in the path."""
    body: str
    """`*`, the name of a field, or empty when there is no body."""


def bindings(method: MethodDescriptor) -> Iterator[Binding]:
    """Yields the bindings of an RPC; none when it is not part of the REST surface."""
    options = MethodOptions.FromString(method.GetOptions().SerializeToString())
    extension: Any = annotations_pb2.http  # its stub says that it is a plain field
    rule: http_pb2.HttpRule = options.Extensions[extension]
    for one in (rule, *rule.additional_bindings):
        if verb := one.WhichOneof("pattern"):
            yield _binding(one, verb)


def _binding(rule: http_pb2.HttpRule, verb: str) -> Binding:
    template: str = getattr(rule, verb)
    variables = tuple(match[1] for match in _VARIABLE.finditer(template))
    path = _VARIABLE.sub(lambda match: "{" + match[1] + "}", template)
    return Binding(verb=verb, path=path, variables=variables, body=rule.body)


class Operations:
    """Makes the operation object of an RPC."""

    def __init__(self, *, source: Source, book: SchemaBook, http_bodies: dict[str, Any]) -> None:
        self._source = source
        self._book = book
        self._http_bodies = http_bodies

    def operation(self, method: MethodDescriptor, binding: Binding) -> dict[str, Any]:
        """Returns the operation object.

        Args:
            method: the RPC.
            binding: where it is found.
        """
        service = method.containing_service
        comment = self._source.comment(method)
        summary, _, rest = comment.partition(". ")
        operation: dict[str, Any] = {
            "tags": [service.name],
            "operationId": f"{service.name}_{method.name}",
            "summary": summary.rstrip("."),
        }
        if rest:
            operation["description"] = comment
        if parameters := [*self._path_parameters(method, binding), *self._query_parameters(method, binding)]:
            operation["parameters"] = parameters
        if binding.body:
            operation["requestBody"] = {"required": True, "content": self._request_content(method, binding)}
        errors = "openai_error" if self._hint(method) else "error"
        operation["responses"] = {
            "200": {"description": "OK", "content": self._response_content(method)},
            "default": {"$ref": f"#/components/responses/{errors}"},
        }
        return operation

    def _hint(self, method: MethodDescriptor) -> dict[str, str]:
        hint: dict[str, str] = self._http_bodies.get(method.full_name, {})
        return hint

    def _path_parameters(self, method: MethodDescriptor, binding: Binding) -> Iterator[Schema]:
        for name in binding.variables:
            yield self._parameter(method.input_type.fields_by_name[name], name, place="path")

    def _query_parameters(self, method: MethodDescriptor, binding: Binding) -> Iterator[Schema]:
        if binding.body == "*" or method.input_type.full_name == _HTTP_BODY:
            return
        taken = {*binding.variables, binding.body}
        for name, field in _leaves(method.input_type, prefix="", taken=taken):
            yield self._parameter(field, name, place="query")

    def _parameter(self, field: FieldDescriptor, name: str, *, place: str) -> Schema:
        schema = self._book.field(field)
        parameter: Schema = {"name": name, "in": place}
        if description := schema.pop("description", ""):
            parameter["description"] = description
        if place == "path" or field_limits(field).required:
            parameter["required"] = True
        return {**parameter, "schema": schema}

    def _request_content(self, method: MethodDescriptor, binding: Binding) -> Schema:
        request = method.input_type
        if request.full_name == _HTTP_BODY:
            return _json(self._hint(method).get("request"))
        if binding.body == "*":
            schema = self._book.body(request, without=binding.variables)
        else:
            schema = self._book.field(request.fields_by_name[binding.body])
        return {"application/json": {"schema": schema}}

    def _response_content(self, method: MethodDescriptor) -> Schema:
        response = method.output_type
        if response.full_name == _HTTP_BODY:
            hint = self._hint(method)
            content = _json(hint.get("response"))
            if "event" in hint:
                content["text/event-stream"] = {"schema": {"$ref": hint["event"]}}
            return content
        media_type = "text/event-stream" if method.server_streaming else "application/json"
        return {media_type: {"schema": self._book.message(response)}}


def _json(schema: str | None) -> Schema:
    """A JSON body; any, where its form is not told."""
    return {"application/json": {"schema": {"$ref": schema} if schema else {}}}


def _leaves(
    message: Descriptor, *, prefix: str, taken: Collection[str], above: tuple[str, ...] = ()
) -> Iterator[tuple[str, FieldDescriptor]]:
    """Yields the fields that a query string can hold, members of messages as `outer.inner`."""
    for field in message.fields:
        name = f"{prefix}{field.name}"
        if name in taken:
            continue
        inner = field.message_type
        if inner is None or inner.full_name.startswith("google.protobuf."):
            yield name, field
        elif not field.is_repeated and inner.full_name not in above:
            yield from _leaves(inner, prefix=f"{name}.", taken=taken, above=(*above, inner.full_name))
