"""A BERT that embeds sentences, in the layout of sentence-transformers: its folder, loaded.

onnxruntime does the arithmetic: measured on one core it takes half the time of numpy and a quarter of llama.cpp's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from services.runtime.sentence_encoder_graph import IDS, MASK, VECTORS, BertShape, build_graph
from services.runtime.settings import SettingsError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

_PACKAGES = "onnx, onnxruntime and tokenizers"


class SentenceEncoder:
    """The tokenizer and the network. Its methods take long: call them in a thread, one at a time."""

    def __init__(self, *, tokenizer: Tokenizer, session: InferenceSession, max_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._session = session
        self.max_tokens = max_tokens
        """Tokens that the model was made for, those that mark start and end included."""
        self.marks: int = tokenizer.num_special_tokens_to_add(is_pair=False)
        """Tokens that mark a text's start and end."""

    @classmethod
    def load(
        cls,
        file: Path,
        *,
        model: str,
        threads: int,
        changed: Mapping[str, NDArray[np.float32]] | None = None,
        otherwise: str = "leave the model out with CHATMESH_INFERENCE_MODELS",
    ) -> Self:
        """Load the model of a safetensors file; `changed`: weights that stand for those of the file.

        `otherwise` says what else can be done where the packages are missing.

        Raises:
            SettingsError: a package is missing, or this is no model of the kind.
        """
        try:
            # Tens of megabytes that few processes need.
            import onnxruntime
            from tokenizers import Tokenizer
        except ImportError as error:
            raise SettingsError(
                f"model {model} needs the packages {_PACKAGES}; install them with `pip install`, or {otherwise}"
            ) from error
        folder = file.parent
        try:
            max_tokens = int(_read(folder / "sentence_bert_config.json")["max_seq_length"])
            _check_pooling(_read(folder / "1_Pooling" / "config.json"))
            graph = build_graph(BertShape.of(_read(folder / "config.json")), weights=file, changed=changed)
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            # The file's own length and padding are not those that the model is used with.
            tokenizer.no_truncation()
            tokenizer.no_padding()
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            options.inter_op_num_threads = 1
            # Threads that wait by spinning would take the cores of those who serve.
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
            session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            # Both libraries raise whatever they like, bare Exception included.
            raise SettingsError(
                f"model {model}: {file} and the files beside it are not a sentence-transformers BERT with mean "
                f"pooling: {type(error).__name__}: {error}"
            ) from error
        return cls(tokenizer=tokenizer, session=session, max_tokens=max_tokens)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of texts, start and end marks included."""
        # Not encode_batch: that takes every core.
        return [self._tokenizer.encode(text).ids for text in texts]

    def cut(self, ids: list[int], limit: int) -> list[int]:
        """At most `limit` tokens, the end mark kept."""
        return ids if len(ids) <= limit else [*ids[: limit - 1], ids[-1]]

    def embed(self, texts: Sequence[list[int]]) -> list[list[float]]:
        """Vectors of length 1, of texts as tokens."""
        vectors: list[list[float]] = self.embed_rows(texts).tolist()
        return vectors

    def embed_rows(self, texts: Sequence[list[int]]) -> NDArray[np.float32]:
        """The same as the rows of a matrix."""
        import numpy as np

        longest = max(len(ids) for ids in texts)
        ids = np.zeros((len(texts), longest), dtype=np.int64)
        mask = np.zeros((len(texts), longest), dtype=np.float32)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = text
            mask[row, : len(text)] = 1
        rows: NDArray[np.float32] = self._session.run([VECTORS], {IDS: ids, MASK: mask})[0]
        return rows


def _read(file: Path) -> dict[str, Any]:
    content = json.loads(file.read_bytes())
    if not isinstance(content, dict):
        raise TypeError(f"{file.name} is no object")
    return content


def _check_pooling(pooling: dict[str, Any]) -> None:
    modes = {name for name, used in pooling.items() if name.startswith("pooling_mode_") and used}
    if modes != {"pooling_mode_mean_tokens"}:
        raise ValueError(f"the pooling is {', '.join(sorted(modes))}")
