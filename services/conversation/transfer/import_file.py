"""A file to import: checked as a whole, then read conversation by conversation.

The whole file is never held as objects, which would take twenty times its size. It is first cut into conversations by
its brackets. All of this may take seconds and belongs in a thread: it runs as Python code, not inside one long call of
the JSON decoder, so that other threads get their turn meanwhile.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from services.conversation.transfer.export_json import FORMAT, VERSION
from services.conversation.transfer.import_chatgpt import read_chatgpt
from services.conversation.transfer.import_own import read_own
from services.conversation.transfer.imported import ImportedConversation
from services.runtime.errors import DomainError, Reason

MAX_CONVERSATIONS = 10_000
MAX_DEPTH = 100
MAX_VALUES = 8_000_000
"""Of brackets and commas: they can make many small objects of few bytes."""

_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{},"]', re.DOTALL)
_QUOTE, _COMMA, _OPEN, _CLOSE = ord('"'), ord(","), b"[{", b"]}"
_MEMBER = b'"conversations"'


@dataclass(frozen=True, slots=True)
class ImportFile:
    """A file that is valid JSON and of a form that can be imported."""

    data: bytes
    spans: Sequence[tuple[int, int]]
    """Where its conversations stand."""
    _read: Callable[[Mapping[str, Any]], ImportedConversation]

    def source(self, index: int) -> Any:
        """A conversation as it stands in the file."""
        start, end = self.spans[index]
        return _decode(self.data, start, end)

    def read(self, source: Mapping[str, Any]) -> ImportedConversation:
        """A conversation as it is imported.

        Raises:
            BrokenConversationError: when it cannot be.
        """
        return self._read(source)


def open_import(data: bytes) -> ImportFile:
    """Check a file.

    Raises:
        DomainError: INVALID_IMPORT when it is no JSON, or none that can be imported.
    """
    opening = data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if opening not in (b"[", b"{"):
        raise invalid_import("The file is no JSON of conversations: it begins with neither [ nor {.", position=0)
    data = data.removeprefix(b"\xef\xbb\xbf")
    begin, end, spans = _cut(data, member=opening == b"{")
    if len(spans) > MAX_CONVERSATIONS:
        raise invalid_import(
            f"The file has {len(spans)} conversations; at most {MAX_CONVERSATIONS} are imported at once."
        )
    if opening == b"{":
        _check_header(data, begin, end)
    elif data[:begin].strip() != b"[" or data[end:].strip() != b"]":
        raise invalid_import("The file is no JSON: something stands beside the list.", position=end)
    for span in spans:
        _decode(data, *span)
    return ImportFile(data, spans, read_own if opening == b"{" else read_chatgpt)


def invalid_import(message: str, *, position: int | None = None) -> DomainError:
    """The error for a file that cannot be imported. `position` is in bytes."""
    metadata = {} if position is None else {"position": str(position)}
    return DomainError(Reason.INVALID_IMPORT, message, metadata=metadata)


def _cut(data: bytes, *, member: bool) -> tuple[int, int, list[tuple[int, int]]]:
    """Where the list of conversations begins and ends, without its brackets, and where each of them stands.

    Args:
        member: The list is the member `conversations` of an object, and not the whole file.
    """
    level = 2 if member else 1
    depth = values = 0
    last_key = b""
    begin = end = since = -1
    spans: list[tuple[int, int]] = []
    for match in _TOKEN.finditer(data):
        position = match.start()
        kind = data[position]
        if kind == _QUOTE:
            if match.end() == position + 1:
                raise invalid_import("The file is no JSON: a text has no end.", position=position)
            if depth == 1 and member and match.end() - position == len(_MEMBER):
                last_key = match[0]
            continue
        values += 1
        if kind in _OPEN:
            depth += 1
            if depth == level and begin < 0 and kind == _OPEN[0] and (not member or last_key == _MEMBER):
                begin = since = match.end()
        elif kind in _CLOSE:
            if depth == level and begin >= 0 and end < 0:
                end = position
                if spans or data[since:position].strip():
                    spans.append((since, position))
            depth -= 1
        elif depth == level and begin >= 0 and end < 0:
            spans.append((since, position))
            since = match.end()
        if not 0 <= depth <= MAX_DEPTH or values > MAX_VALUES:
            raise invalid_import("The file is nested too deep, or has too many values.", position=position)
        if kind == _COMMA and depth == 1:
            last_key = b""
    if depth or begin < 0 or end < 0:
        text = "it ends too early" if depth else "it has no list of conversations"
        raise invalid_import(f"The file cannot be imported: {text}.", position=len(data))
    return begin, end, spans


def _check_header(data: bytes, begin: int, end: int) -> None:
    whole = data[:begin] + data[end:]
    header = _decode(whole, 0, len(whole))
    if header.get("format") != FORMAT:
        raise invalid_import(f'The file is none of ours: its "format" is not "{FORMAT}".')
    if header.get("version") != VERSION:
        raise invalid_import(f"The file has another version than {VERSION}, the only one that can be imported.")


def _decode(data: bytes, start: int, end: int) -> Any:
    try:
        return json.loads(data[start:end].decode(), object_hook=_object, parse_constant=_refuse)
    except UnicodeDecodeError as error:
        raise invalid_import("The file is not UTF-8.", position=start + error.start) from None
    except json.JSONDecodeError as error:
        position = start + len(error.doc[: error.pos].encode())
        raise invalid_import(f"The file is no JSON: {error.msg}.", position=position) from None
    except ValueError:
        raise invalid_import("The file has a number that cannot be read.", position=start) from None


def _object(value: dict[str, Any]) -> dict[str, Any]:
    # A function of Python, so that the decoder pauses at each object and other threads get their turn.
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
