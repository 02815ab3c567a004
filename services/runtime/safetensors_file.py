"""Files of the safetensors format: tensors by name, and no code in them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000
_TYPES = {"F32": "<f4", "F16": "<f2", "I8": "|i1"}
_METADATA = "__metadata__"


def read_header(file: Path) -> tuple[dict[str, Any], int]:
    """What a file says of its tensors, and where their bytes begin.

    Raises:
        ValueError or TypeError: it is no such file.
    """
    with file.open("rb") as content:
        length = int.from_bytes(content.read(_LENGTH_BYTES), "little")
        if length > _MAX_HEADER_BYTES:
            raise ValueError(f"{file.name} is no safetensors file")
        header = json.loads(content.read(length))
    if not isinstance(header, dict):
        raise TypeError(f"{file.name} is no safetensors file")
    return header, _LENGTH_BYTES + length


def read_tensors(file: Path, names: Iterable[str] | None = None) -> dict[str, NDArray[np.float32]]:
    """The tensors of these names, or all, as 32-bit floats.

    Raises:
        KeyError: one is missing. ValueError: one is of another type, or the file is cut short.
    """
    import numpy as np

    header, start = read_header(file)
    content = np.memmap(file, mode="r")
    tensors = {}
    for name in names if names is not None else header.keys() - {_METADATA}:
        about = header[name]
        if about["dtype"] not in _TYPES:
            raise ValueError(f"{name} is of type {about['dtype']}")
        begin, end = about["data_offsets"]
        if start + end > len(content):
            raise ValueError(f"{file.name} is cut short")
        values = np.frombuffer(content[start + begin : start + end], dtype=_TYPES[about["dtype"]])
        tensors[name] = values.reshape(about["shape"]).astype(np.float32)
    return tensors


def write_tensors(file: Path, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Write tensors, in the order of their names: the same tensors make the same bytes."""
    names = {kind: name for name, kind in _TYPES.items()}
    header, at = {}, 0
    for name in sorted(tensors):
        tensor = tensors[name]
        header[name] = {
            "dtype": names[tensor.dtype.newbyteorder("<").str],
            "shape": list(tensor.shape),
            "data_offsets": [at, at + tensor.nbytes],
        }
        at += tensor.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _LENGTH_BYTES)
    with file.open("wb") as content:
        content.write(len(text).to_bytes(_LENGTH_BYTES, "little"))
        content.write(text)
        for name in sorted(tensors):
            content.write(tensors[name].tobytes())
