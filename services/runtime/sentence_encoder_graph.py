"""The arithmetic of a BERT with mean pooling, as an ONNX graph over the weights of a safetensors file.

The weights are not copied: the graph says where in the file each one lies, and onnxruntime maps it into memory. Those
that were trained further are given beside the file and stand in the graph itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from services.runtime.safetensors_file import read_header

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnx import TensorProto

    FloatArray = NDArray[np.float32]

IDS = "ids"
"""Token ids, one row per text, int64."""
MASK = "mask"
"""1.0 where there is a token and 0.0 where a row was filled up."""
VECTORS = "vectors"
"""One of length 1 per text."""

_OPSET = 20
"""The first that knows Gelu."""
_IR_VERSION = 9
_FAR_BELOW = -1e9
"""Added to the score of what is no token."""


@dataclass(frozen=True, slots=True)
class BertShape:
    """What config.json says of the network."""

    layers: int
    heads: int
    width: int
    epsilon: float

    @classmethod
    def of(cls, config: dict[str, Any]) -> Self:
        """Read it.

        Raises:
            ValueError: the network is another one. KeyError: something is not said.
        """
        kind = (config["model_type"], config["hidden_act"], config.get("position_embedding_type", "absolute"))
        if kind != ("bert", "gelu", "absolute"):
            raise ValueError(f"the network is {', '.join(kind)}")
        return cls(
            layers=int(config["num_hidden_layers"]),
            heads=int(config["num_attention_heads"]),
            width=int(config["hidden_size"]),
            epsilon=float(config["layer_norm_eps"]),
        )


def build_graph(shape: BertShape, *, weights: Path, changed: Mapping[str, FloatArray] | None = None) -> bytes:
    """The graph as an ONNX model; its weights stand in a file of the name of `weights`, except those of `changed`."""
    graph = _Graph(weights, changed or {})
    hidden = _embedded(graph, shape)
    mask = graph.add("Unsqueeze", MASK, graph.integers([1, 2]))
    mask = graph.add("Mul", graph.add("Sub", graph.number(1), mask), graph.number(_FAR_BELOW))
    for layer in range(shape.layers):
        hidden = _layer(graph, shape, f"encoder.layer.{layer}", hidden, mask)
    _pooled(graph, shape, hidden)
    return graph.model(shape)


def _embedded(graph: _Graph, shape: BertShape) -> str:
    """Rows of all texts below one another: word, place and kind of each token."""
    words = graph.add("Gather", graph.weight("embeddings.word_embeddings.weight"), IDS)
    length = graph.add("Slice", graph.add("Shape", IDS), *(graph.integers([number]) for number in (1, 2)))
    places = graph.add(
        "Slice", graph.weight("embeddings.position_embeddings.weight"), graph.integers([0]), length, graph.integers([0])
    )
    kind = graph.add("Gather", graph.weight("embeddings.token_type_embeddings.weight"), graph.integers([0]))
    summed = graph.add("Add", graph.add("Add", words, places), kind)
    rows = graph.add("Reshape", summed, graph.integers([-1, shape.width]))
    return graph.normalized(rows, "embeddings.LayerNorm", shape.epsilon)


def _layer(graph: _Graph, shape: BertShape, name: str, hidden: str, mask: str) -> str:
    width = shape.width // shape.heads
    texts_and_places = graph.add("Shape", IDS)
    split = graph.add("Concat", texts_and_places, graph.integers([shape.heads, width]), axis=0)

    def heads(part: str, *order: int) -> str:
        rows = graph.linear(hidden, f"{name}.attention.self.{part}")
        return graph.add("Transpose", graph.add("Reshape", rows, split), perm=list(order))

    query, key, value = heads("query", 0, 2, 1, 3), heads("key", 0, 2, 3, 1), heads("value", 0, 2, 1, 3)
    scores = graph.add("Mul", graph.add("MatMul", query, key), graph.number(1 / math.sqrt(width)))
    attention = graph.add("Softmax", graph.add("Add", scores, mask), axis=-1)
    seen = graph.add("Transpose", graph.add("MatMul", attention, value), perm=[0, 2, 1, 3])
    rows = graph.add("Reshape", seen, graph.integers([-1, shape.width]))
    attended = graph.add("Add", graph.linear(rows, f"{name}.attention.output.dense"), hidden)
    attended = graph.normalized(attended, f"{name}.attention.output.LayerNorm", shape.epsilon)
    inner = graph.add("Gelu", graph.linear(attended, f"{name}.intermediate.dense"))
    outer = graph.add("Add", graph.linear(inner, f"{name}.output.dense"), attended)
    return graph.normalized(outer, f"{name}.output.LayerNorm", shape.epsilon)


def _pooled(graph: _Graph, shape: BertShape, hidden: str) -> None:
    """The mean of each text's tokens, made as long as 1. The length of the sum does not matter then."""
    rows = graph.add("Concat", graph.add("Shape", IDS), graph.integers([shape.width]), axis=0)
    texts = graph.add("Reshape", hidden, rows)
    # (texts, 1, places) x (texts, places, width)
    summed = graph.add("MatMul", graph.add("Unsqueeze", MASK, graph.integers([1])), texts)
    vectors = graph.add("Squeeze", summed, graph.integers([1]))
    graph.add("LpNormalization", vectors, output=VECTORS, axis=-1, p=2)


class _Graph:
    """Collects nodes. Every method returns the name of what it added."""

    def __init__(self, weights: Path, changed: Mapping[str, FloatArray]) -> None:
        self._file = weights.name
        self._changed = changed
        self._tensors, self._start = read_header(weights)
        self._nodes: list[Any] = []
        self._constants: dict[str, TensorProto] = {}

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """A node with one output."""
        from onnx import helper

        output = output or f"{operator}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def linear(self, rows: str, name: str) -> str:
        """Rows times a matrix, plus a bias. PyTorch stores the matrix transposed."""
        return self.add("Gemm", rows, self.weight(f"{name}.weight"), self.weight(f"{name}.bias"), transB=1)

    def normalized(self, rows: str, name: str, epsilon: float) -> str:
        """A layer normalization."""
        scale, shift = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.add("LayerNormalization", rows, scale, shift, axis=-1, epsilon=epsilon)

    def weight(self, name: str) -> str:
        """A tensor of the file, or what it was changed to."""
        from onnx import TensorProto, numpy_helper

        if name in self._changed:
            self._constants.setdefault(name, numpy_helper.from_array(self._changed[name], name))
        elif name not in self._constants:
            about = self._tensors[name]
            if about["dtype"] != "F32":
                raise ValueError(f"{name} is of type {about['dtype']}, not F32")
            start, end = about["data_offsets"]
            tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
            tensor.dims.extend(about["shape"])
            for key, value in (("location", self._file), ("offset", self._start + start), ("length", end - start)):
                tensor.external_data.add(key=key, value=str(value))
            self._constants[name] = tensor
        return name

    def integers(self, values: list[int]) -> str:
        """A vector of whole numbers."""
        from onnx import TensorProto, helper

        name = f"integers_{'_'.join(map(str, values))}"
        self._constants.setdefault(name, helper.make_tensor(name, TensorProto.INT64, [len(values)], values))
        return name

    def number(self, value: float) -> str:
        """One number."""
        from onnx import TensorProto, helper

        name = f"number_{value}"
        self._constants.setdefault(name, helper.make_tensor(name, TensorProto.FLOAT, [], [value]))
        return name

    def model(self, shape: BertShape) -> bytes:
        """Everything that was added."""
        from onnx import TensorProto, helper

        graph = helper.make_graph(
            self._nodes,
            "bert",
            [
                helper.make_tensor_value_info(IDS, TensorProto.INT64, ["texts", "places"]),
                helper.make_tensor_value_info(MASK, TensorProto.FLOAT, ["texts", "places"]),
            ],
            [helper.make_tensor_value_info(VECTORS, TensorProto.FLOAT, ["texts", shape.width])],
            list(self._constants.values()),
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
        return bytes(model.SerializeToString())
