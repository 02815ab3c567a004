"""The contracts with their comments, as read from a descriptor set that carries source info."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor import Descriptor, EnumDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

# Field numbers of descriptor.proto, from which the paths of source info are made.
_FILE_MESSAGE, _FILE_ENUM, _FILE_SERVICE = 4, 5, 6
_MESSAGE_FIELD, _MESSAGE_NESTED, _MESSAGE_ENUM = 2, 3, 4
_ENUM_VALUE = 2
_SERVICE_METHOD = 2


class Source:
    """Descriptors of every file of the set, and the comment in front of each of their elements."""

    def __init__(self, descriptor_set: Path) -> None:
        files = FileDescriptorSet.FromString(descriptor_set.read_bytes())
        self._pool = DescriptorPool()
        self._comments: dict[str, str] = {}
        self._names = [file.name for file in files.file]
        for file in files.file:
            self._read_comments(file)
            self._pool.Add(file)

    def services(self) -> Iterator[ServiceDescriptor]:
        """Yields the services of all files, files by name."""
        for name in sorted(self._names):
            yield from self._pool.FindFileByName(name).services_by_name.values()

    def comment(self, element: Descriptor | EnumDescriptor | MethodDescriptor | ServiceDescriptor) -> str:
        """Returns the comment in front of an element; empty when it has none."""
        return self.comment_of(element.full_name)

    def comment_of(self, full_name: str) -> str:
        """Returns the comment of an element by its full name; an enum value's is `<enum>.<value>`."""
        return self._comments.get(full_name, "")

    def _read_comments(self, file: FileDescriptorProto) -> None:
        names = dict(_names_by_path(file))
        for location in file.source_code_info.location:
            name = names.get(tuple(location.path))
            if name is not None and location.leading_comments:
                self._comments[name] = _flow(location.leading_comments)


def _names_by_path(file: FileDescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
    for index, message in enumerate(file.message_type):
        yield from _message_names((_FILE_MESSAGE, index), file.package, message)
    for index, enum in enumerate(file.enum_type):
        yield from _enum_names((_FILE_ENUM, index), file.package, enum)
    for index, service in enumerate(file.service):
        name = f"{file.package}.{service.name}"
        yield (_FILE_SERVICE, index), name
        for number, method in enumerate(service.method):
            yield (_FILE_SERVICE, index, _SERVICE_METHOD, number), f"{name}.{method.name}"


def _message_names(
    path: tuple[int, ...], scope: str, message: DescriptorProto
) -> Iterator[tuple[tuple[int, ...], str]]:
    name = f"{scope}.{message.name}"
    yield path, name
    for index, field in enumerate(message.field):
        yield (*path, _MESSAGE_FIELD, index), f"{name}.{field.name}"
    for index, nested in enumerate(message.nested_type):
        yield from _message_names((*path, _MESSAGE_NESTED, index), name, nested)
    for index, enum in enumerate(message.enum_type):
        yield from _enum_names((*path, _MESSAGE_ENUM, index), name, enum)


def _enum_names(path: tuple[int, ...], scope: str, enum: EnumDescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
    name = f"{scope}.{enum.name}"
    yield path, name
    for index, value in enumerate(enum.value):
        yield (*path, _ENUM_VALUE, index), f"{name}.{value.name}"


def _flow(comment: str) -> str:
    """Joins the lines of each paragraph of a comment."""
    paragraphs = comment.strip().split("\n\n")
    return "\n\n".join(" ".join(line.strip() for line in paragraph.splitlines()) for paragraph in paragraphs)
