"""Bytes of tokens, and text out of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.engines.tensorrt_llm.probabilities import logprob_of, told_logprob
from services.inference.engines.tensorrt_llm.vocabulary import Detokenizer, UnknownVocabularyError, Vocabulary
from tests.doubles.tensorrt_llm.transformers import AddedToken, AutoTokenizer

_TOKENIZER = AutoTokenizer.from_pretrained("double/qwen")
_VOCABULARY = Vocabulary(_TOKENIZER)


class Pieces:
    """A SentencePiece tokenizer: letters, U+2581 for a space, and bytes."""

    all_special_ids = (0,)

    def __init__(self) -> None:
        self.added_tokens_decoder = {0: AddedToken("<s>", special=True)}
        self._names = ["<s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", *map(chr, range(33, 127))]

    def __len__(self) -> int:
        return len(self._names)

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        known = {name: at for at, name in enumerate(self._names)}
        spelled = ("\u2581" + text).replace(" ", "\u2581")
        return [
            token
            for character in spelled
            for token in ([known[character]] if character in known else [1 + byte for byte in character.encode()])
        ]

    def convert_ids_to_tokens(self, token: int) -> str:
        return self._names[token]


@given(text=st.text(alphabet=st.characters(exclude_characters="<", codec="utf-8"), max_size=40))
def test_every_text_comes_back(text: str) -> None:
    ids = _TOKENIZER.encode(text, add_special_tokens=False)
    assert b"".join(map(_VOCABULARY.bytes_of, ids)) == text.encode()


@given(text=st.text(alphabet="aé本😀 éé", max_size=30))
def test_text_that_was_told_is_that_of_whole_tokens(text: str) -> None:
    ids = _TOKENIZER.encode(text, add_special_tokens=False)
    detokenizer = Detokenizer(_VOCABULARY)
    told = ""
    for count, token in enumerate(ids, start=1):
        piece = detokenizer.feed(token)
        told += piece
        if piece:
            assert told.encode() == b"".join(map(_VOCABULARY.bytes_of, ids[:count]))
    assert told + detokenizer.end() == text


def test_a_character_that_was_only_begun_is_left_out() -> None:
    # é and the first byte of another one, in one token.
    (token,) = [at for at in range(len(_TOKENIZER)) if _VOCABULARY.bytes_of(at) == b"\xc3\xa9\xc3"]
    detokenizer = Detokenizer(_VOCABULARY)
    assert detokenizer.feed(token) == ""
    assert detokenizer.end() == "é"


def test_special_tokens_are_no_text() -> None:
    end = _TOKENIZER.id_of("<|end|>")
    assert _VOCABULARY.bytes_of(end) == b""
    assert _VOCABULARY.shown(end) == b"<|end|>"
    assert _VOCABULARY.bytes_of(_TOKENIZER.id_of("<tool_call>")) == b"<tool_call>"
    assert _VOCABULARY.bytes_of(len(_TOKENIZER) + 3) == b""


def test_sentence_pieces() -> None:
    vocabulary = Vocabulary(Pieces())
    assert vocabulary.bytes_of(257) == b" "
    assert vocabulary.bytes_of(1 + 0xC3) == b"\xc3"
    assert vocabulary.bytes_of(258) == b"!"
    # The space that the tokenizer puts before a text is not shown, unless the text goes on.
    ids = Pieces().encode("A b", add_special_tokens=False)
    for continues, text in ((False, "A b"), (True, " A b")):
        detokenizer = Detokenizer(vocabulary, continues=continues)
        assert "".join(map(detokenizer.feed, ids)) == text


def test_another_vocabulary_is_refused() -> None:
    class WordPiece(Pieces):
        def convert_ids_to_tokens(self, token: int) -> str:
            return f"##{self._names[token]}"

    with pytest.raises(UnknownVocabularyError, match="neither"):
        Vocabulary(WordPiece())


def _given(**logprobs: float) -> dict[int, Any]:
    return {ord(letter): SimpleNamespace(logprob=value) for letter, value in logprobs.items()}


def test_logprobs() -> None:
    given = _given(a=-0.5, b=-1.5)
    assert logprob_of(ord("b"), given) == -1.5
    # Not among those that were asked for: at most the least of them.
    assert logprob_of(ord("c"), given) == -1.5
    assert logprob_of(ord("c"), -2.0) == -2.0
    told = told_logprob(ord("b"), given, top=1, vocabulary=_VOCABULARY)
    assert (told.token, told.data, told.logprob) == ("b", b"b", -1.5)
    assert [(other.token, other.logprob) for other in told.top] == [("a", -0.5)]
