"""Field limits: declared in the protos, enforced here and nowhere else.

For every message type the options `chatmesh.type.v1.limits` of its fields are compiled once into a list of checks; a
type without limits costs one dictionary lookup per message. Enums and times need no option: a number that the enum does
not have, or a time that is none, is refused. But not of an enum of another package: services share it, one of them may
be newer, and what an unknown number means to it is for the reader to say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from chatmesh.type.v1 import limits_pb2
from chatmesh.type.v1.limits_pb2 import FieldLimits
from services.runtime.errors import DomainError, FieldViolation, Reason

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:-]*")
_FORMATS = {
    limits_pb2.STRING_FORMAT_UUID: (
        _UUID,
        "must be a UUID such as 3fa85f64-5717-4562-b3fc-2c963f66afa6, in lower case",
    ),
    limits_pb2.STRING_FORMAT_NAME: (
        _NAME,
        "must start with a letter or digit and hold only letters, digits and . _ - / :",
    ),
}
_MAX_VIOLATIONS = 20
_TIMESTAMP = "google.protobuf.Timestamp"
_FIRST_SECOND, _LAST_SECOND, _MAX_NANOS = -62_135_596_800, 253_402_300_799, 999_999_999
"""What a Timestamp may be: 0001-01-01T00:00:00Z to 9999-12-31T23:59:59.999999999Z."""
_EMPTY_IS_ABSENT = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_ENUM)

_Check = Callable[[Any], str | None]
"""Takes a value, says what is wrong with it or None."""
_FieldCheck = Callable[[Message, str, list[FieldViolation]], None]
"""Takes a message, the path of that message, and where to put violations."""

HandlerT = TypeVar("HandlerT", bound=Callable[..., Any])

CHECKS_ITS_ITEMS = "checks_its_items"


def checks_its_items(handler: HandlerT) -> HandlerT:
    """Mark the handler of a multiplexed stream, which checks each item of a message itself.

    The interceptor can only end the call. On a stream that many answers share, one bad item must end no answer but its
    own.
    """
    setattr(handler, CHECKS_ITS_ITEMS, True)
    return handler


class Validator:
    """Checks messages against their declared limits."""

    def __init__(self) -> None:
        self._compiled: dict[str, list[_FieldCheck]] = {}

    def validate(self, message: Message) -> None:
        """Check a message and everything in it.

        Raises:
            DomainError: INVALID_FIELD with one violation for each field that breaks its limits.
        """
        checks = self._checks(cast(Descriptor, message.DESCRIPTOR))
        if not checks:
            return
        violations: list[FieldViolation] = []
        for check in checks:
            check(message, "", violations)
        if violations:
            first = violations[0]
            more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
            raise DomainError(
                Reason.INVALID_FIELD, f"{first.field} {first.description}{more}.", fields=violations[:_MAX_VIOLATIONS]
            )

    def _checks(self, descriptor: Descriptor) -> list[_FieldCheck]:
        checks = self._compiled.get(descriptor.full_name)
        if checks is None:
            # Entered before its fields are compiled, so that a type that holds itself ends the recursion.
            checks = self._compiled[descriptor.full_name] = []
            checks.extend(c for field in descriptor.fields if (c := self._compile(field)) is not None)
        return checks

    def _compile(self, field: FieldDescriptor) -> _FieldCheck | None:
        limits = _limits(field)
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        value_checks = list(_value_checks(field, limits))
        if is_map:
            return self._repeated(field, limits, value_checks, None, values_of=lambda entries: entries.values())
        nested = field.message_type
        if nested is not None and (nested.full_name == _TIMESTAMP or not self._has_limits(nested, set())):
            nested = None
        if field.is_repeated:
            return self._repeated(field, limits, value_checks, nested)
        return self._singular(field, limits, value_checks, nested)

    def _has_limits(self, descriptor: Descriptor, seen: set[str]) -> bool:
        if descriptor.full_name == _TIMESTAMP:
            return True
        if descriptor.full_name in seen:
            return False
        seen.add(descriptor.full_name)
        return any(
            _limits(field).ByteSize() > 0
            or _own_enum(field) is not None
            or (field.message_type is not None and self._has_limits(field.message_type, seen))
            for field in descriptor.fields
        )

    def _singular(
        self,
        field: FieldDescriptor,
        limits: FieldLimits,
        value_checks: list[_Check],
        nested: Descriptor | None,
    ) -> _FieldCheck | None:
        if not value_checks and nested is None and not limits.required:
            return None
        name, required, has_presence = field.name, limits.required, field.has_presence
        # Of a number zero is a value like any other; a text or a choice that is empty was not given.
        empty_is_absent = field.type in _EMPTY_IS_ABSENT

        def check(message: Message, path: str, violations: list[FieldViolation]) -> None:
            if has_presence and not message.HasField(name):
                if required:
                    violations.append(FieldViolation(path + name, "is required"))
                return
            value = getattr(message, name)
            if nested is not None:
                self._descend(value, f"{path}{name}.", violations)
                return
            if empty_is_absent and not value and not (required and has_presence):
                if required:
                    violations.append(FieldViolation(path + name, "is required"))
                return
            _apply(value_checks, value, path + name, violations)

        return check

    def _repeated(
        self,
        field: FieldDescriptor,
        limits: FieldLimits,
        value_checks: list[_Check],
        nested: Descriptor | None,
        values_of: Callable[[Any], Iterable[Any]] = iter,
    ) -> _FieldCheck | None:
        max_items = limits.max_items if limits.HasField("max_items") else None
        if not value_checks and nested is None and not limits.required and max_items is None:
            return None
        name, required = field.name, limits.required

        def check(message: Message, path: str, violations: list[FieldViolation]) -> None:
            values = getattr(message, name)
            if required and not values:
                violations.append(FieldViolation(path + name, "must not be empty"))
            if max_items is not None and len(values) > max_items:
                violations.append(
                    FieldViolation(path + name, f"must have at most {max_items} items; it has {len(values)}")
                )
                return
            if nested is not None:
                for index, value in enumerate(values):
                    self._descend(value, f"{path}{name}[{index}].", violations)
            elif value_checks:
                for index, value in enumerate(values_of(values)):
                    _apply(value_checks, value, f"{path}{name}[{index}]", violations)

        return check

    def _descend(self, message: Message, path: str, violations: list[FieldViolation]) -> None:
        for check in self._checks(cast(Descriptor, message.DESCRIPTOR)):
            check(message, path, violations)


def _limits(field: FieldDescriptor) -> FieldLimits:
    options: Any = field.GetOptions()
    limits: FieldLimits = options.Extensions[limits_pb2.limits]
    return limits


def _own_enum(field: FieldDescriptor) -> EnumDescriptor | None:
    enum, message = field.enum_type, field.containing_type
    own = enum is not None and message is not None and enum.file.package == message.file.package
    return enum if own else None


def _timestamp_problem(time: Any) -> str | None:
    if not _FIRST_SECOND <= time.seconds <= _LAST_SECOND:
        return "must be within the years 1 to 9999"
    if not 0 <= time.nanos <= _MAX_NANOS:
        return f"must have nanos from 0 to {_MAX_NANOS}"
    return None


def _apply(checks: Iterable[_Check], value: object, path: str, violations: list[FieldViolation]) -> None:
    for check in checks:
        problem = check(value)
        if problem is not None:
            violations.append(FieldViolation(path, problem))
            return


def _value_checks(field: FieldDescriptor, limits: FieldLimits) -> Iterable[_Check]:
    if (enum := _own_enum(field)) is not None:
        numbers, unknown = frozenset(enum.values_by_number), f"is not a value of {enum.name}"
        yield lambda v: None if v in numbers else unknown
    if field.message_type is not None and field.message_type.full_name == _TIMESTAMP:
        yield _timestamp_problem
    if field.type == FieldDescriptor.TYPE_STRING and limits.ByteSize():
        # No database text can hold it, and nobody means it.
        yield lambda v: "must not contain NUL characters" if "\0" in v else None
    if limits.HasField("min_length"):
        low = limits.min_length
        yield lambda v: None if len(v) >= low else f"must be at least {low} long"
    if limits.HasField("max_length"):
        high = limits.max_length
        unit = "bytes" if field.type == FieldDescriptor.TYPE_BYTES else "characters"
        yield lambda v: None if len(v) <= high else f"must be at most {high} {unit} long; it is {len(v)}"
    if limits.HasField("minimum"):
        least = limits.minimum
        # Written so that NaN, which compares as false with everything, does not pass.
        yield lambda v: None if v >= least else f"must be at least {least:g}"
    if limits.HasField("maximum"):
        most = limits.maximum
        yield lambda v: None if v <= most else f"must be at most {most:g}"
    if limits.not_blank:
        yield lambda v: None if v.strip() else "must not be blank"
    if limits.format in _FORMATS:
        pattern, text = _FORMATS[limits.format]
        yield lambda v: None if pattern.fullmatch(v) else text
