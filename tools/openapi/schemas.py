"""JSON schemas of protobuf messages, as proto3 JSON writes them with the fields' own (snake case) names."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FieldOptions

from chatmesh.type.v1 import limits_pb2
from tools.openapi.source import Source

Schema = dict[str, Any]

_SCALARS: dict[int, Schema] = {
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    FieldDescriptor.TYPE_FLOAT: {"type": "number", "format": "float"},
    FieldDescriptor.TYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptor.TYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.TYPE_SINT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.TYPE_SFIXED32: {"type": "integer", "format": "int32"},
    FieldDescriptor.TYPE_UINT32: {"type": "integer", "format": "int64", "minimum": 0},
    FieldDescriptor.TYPE_FIXED32: {"type": "integer", "format": "int64", "minimum": 0},
    # 64-bit integers are strings in proto3 JSON: JavaScript's numbers do not hold them.
    FieldDescriptor.TYPE_INT64: {"type": "string", "format": "int64"},
    FieldDescriptor.TYPE_SINT64: {"type": "string", "format": "int64"},
    FieldDescriptor.TYPE_SFIXED64: {"type": "string", "format": "int64"},
    FieldDescriptor.TYPE_UINT64: {"type": "string", "format": "uint64"},
    FieldDescriptor.TYPE_FIXED64: {"type": "string", "format": "uint64"},
}

_WELL_KNOWN: dict[str, Schema] = {
    "google.protobuf.Any": {
        "type": "object",
        "properties": {"@type": {"type": "string"}},
        "required": ["@type"],
        "additionalProperties": True,
    },
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$"},
    "google.protobuf.Empty": {"type": "object", "additionalProperties": False},
    "google.protobuf.FieldMask": {"type": "string"},
    "google.protobuf.ListValue": {"type": "array", "items": {}},
    "google.protobuf.Struct": {"type": "object", "additionalProperties": True},
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Value": {},
}

_NAME_PATTERN = "[A-Za-z0-9][A-Za-z0-9._/:-]*"


class SchemaBook:
    """The schemas under `components`, made when they are first referred to."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._full_names: dict[str, str] = {}
        self.schemas: dict[str, Schema] = {}

    def message(self, message: Descriptor) -> Schema:
        """Returns the schema of a message, or a reference to it."""
        well_known = _WELL_KNOWN.get(message.full_name)
        if well_known is not None:
            return dict(well_known)
        if message.full_name.startswith("google.protobuf."):
            raise ValueError(f"{message.full_name} has a JSON form of its own that is not described here yet")
        return self._component(message.name, message.full_name, lambda: self._object(message, without=()))

    def body(self, message: Descriptor, *, without: Collection[str]) -> Schema:
        """Returns the schema of a request's body: the message less the fields that stand in the path."""
        if not without:
            return self.message(message)
        name = f"{message.name}Body"
        return self._component(name, f"{message.full_name}#{name}", lambda: self._object(message, without=without))

    def field(self, field: FieldDescriptor) -> Schema:
        """Returns the schema of one field with its limits and its comment."""
        limits = field_limits(field)
        comment = self._source.comment_of(field.full_name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            value = field.message_type.fields_by_name["value"]
            schema: Schema = {"type": "object", "additionalProperties": self._single(value)}
            if limits.HasField("max_items"):
                schema["maxProperties"] = limits.max_items
        elif field.is_repeated:
            item = self._single(field)
            item.update(_value_limits(field, limits, empty_passes=False))
            schema = {"type": "array", "items": item}
            if limits.required:
                schema["minItems"] = 1
            if limits.HasField("max_items"):
                schema["maxItems"] = limits.max_items
        else:
            schema = self._single(field)
            schema.update(_value_limits(field, limits, empty_passes=not limits.required))
        return {"description": comment, **schema} if comment else schema

    def _single(self, field: FieldDescriptor) -> Schema:
        if field.message_type is not None:
            return self.message(field.message_type)
        if field.enum_type is not None:
            enum = field.enum_type
            return self._component(enum.name, enum.full_name, lambda: self._enum(enum))
        return dict(_SCALARS[field.type])

    def _object(self, message: Descriptor, *, without: Collection[str]) -> Schema:
        fields = [field for field in message.fields if field.name not in without]
        schema: Schema = {"type": "object"}
        if comment := self._source.comment(message):
            schema["description"] = comment
        schema["properties"] = {field.name: self.field(field) for field in fields}
        if required := [field.name for field in fields if field_limits(field).required]:
            schema["required"] = required
        # An `optional` field is a oneof of its own to the compiler; only those that somebody wrote are choices.
        choices = [
            {"oneOf": [{"required": [field.name]} for field in oneof.fields]}
            for oneof in message.oneofs
            if not (len(oneof.fields) == 1 and oneof.name == f"_{oneof.fields[0].name}")
        ]
        if len(choices) == 1:
            schema.update(choices[0])
        elif choices:
            schema["allOf"] = choices
        return schema

    def _enum(self, enum: EnumDescriptor) -> Schema:
        lines = [self._source.comment(enum), ""]
        lines += [
            f"- `{value.name}`: {self._source.comment_of(f'{enum.full_name}.{value.name}')}" for value in enum.values
        ]
        return {
            "type": "string",
            "description": "\n".join(lines),
            "enum": [value.name for value in enum.values],
        }

    def _component(self, name: str, full_name: str, make: Any) -> Schema:
        known = self._full_names.get(name)
        if known is None:
            self._full_names[name] = full_name
            self.schemas[name] = {}  # entered first, so that a message that holds itself ends the recursion
            self.schemas[name] = make()
        elif known != full_name:
            raise ValueError(f"{known} and {full_name} are both public as {name}: rename one of them")
        return {"$ref": f"#/components/schemas/{name}"}


def field_limits(field: FieldDescriptor) -> limits_pb2.FieldLimits:
    """Returns the limits that the contract declares for a field."""
    # The set was read into a pool of its own, whose options do not know our extension: read them again.
    options = FieldOptions.FromString(field.GetOptions().SerializeToString())
    extension: Any = limits_pb2.limits  # its stub says that it is a plain field
    limits: limits_pb2.FieldLimits = options.Extensions[extension]
    return limits


def _value_limits(field: FieldDescriptor, limits: limits_pb2.FieldLimits, *, empty_passes: bool) -> Schema:
    schema: Schema = {}
    if field.type == FieldDescriptor.TYPE_STRING:
        if limits.HasField("min_length") and not empty_passes:
            schema["minLength"] = limits.min_length
        elif limits.required and not field.is_repeated:
            schema["minLength"] = 1
        if limits.HasField("max_length"):
            schema["maxLength"] = limits.max_length
        if limits.format == limits_pb2.STRING_FORMAT_UUID:
            schema["format"] = "uuid"
        elif limits.format == limits_pb2.STRING_FORMAT_NAME:
            schema["pattern"] = f"^({_NAME_PATTERN})?$" if empty_passes else f"^{_NAME_PATTERN}$"
        elif limits.not_blank:
            schema["pattern"] = r"\S"
    elif _SCALARS.get(field.type, {}).get("type") in ("integer", "number"):
        whole = _SCALARS[field.type]["type"] == "integer"
        for key in ("minimum", "maximum"):
            if limits.HasField(key):
                value = getattr(limits, key)
                schema[key] = int(value) if whole else value
    return schema
