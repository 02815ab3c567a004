"""The bytes of each token, so that ids and text always agree.

A tokenizer's own `decode` gives text of whole sequences: it puts U+FFFD where a character is cut, and which token a
character belongs to cannot be told any more. Both kinds of vocabulary that chat models have spell bytes in a way that
can be undone token by token: byte-level BPE writes each byte as a printable character, SentencePiece writes a space as
U+2581 and other bytes as `<0x0A>`.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Sequence
from typing import Any

_SPACE = "\u2581"
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_PROBE = "Hello, wörld! 1 + 1 = 2.\n\tdéjà vu 東京 😀"


class UnknownVocabularyError(Exception):
    """Neither of the two ways to spell bytes gives back a text that was tokenized."""


class Vocabulary:
    """Bytes and spelling of tokens."""

    def __init__(self, tokenizer: Any) -> None:
        """Find out how the tokenizer spells bytes.

        Raises:
            UnknownVocabularyError: in no way that is known here.
        """
        self._tokenizer = tokenizer
        added = {int(token): str(entry.content) for token, entry in tokenizer.added_tokens_decoder.items()}
        self.special = frozenset(int(token) for token in tokenizer.all_special_ids) | frozenset(
            int(token) for token, entry in tokenizer.added_tokens_decoder.items() if getattr(entry, "special", False)
        )
        """Tokens that are no text."""
        self.added = tuple(sorted(set(added.values()), key=len, reverse=True))
        """Spellings that the tokenizer takes for one token wherever they stand."""
        self._spellings = added
        self._bytes: dict[int, bytes] = {
            token: b"" if token in self.special else spelling.encode() for token, spelling in added.items()
        }
        self.drops_first_space = False
        """Texts are tokenized with a space before them, which is none of the text."""
        self._from_spelling = self._find_spelling()

    @property
    def size(self) -> int:
        """The number of tokens."""
        return len(self._tokenizer)

    def bytes_of(self, token: int) -> bytes:
        """The bytes that a token adds to the text: none for a special one."""
        known = self._bytes.get(token)
        if known is None:
            known = self._bytes[token] = self._look_up(token)
        return known

    def shown(self, token: int) -> bytes:
        """The bytes of a token, or its spelling when it is special."""
        if token in self.special:
            return self._spellings.get(token, "").encode()
        return self.bytes_of(token)

    def _look_up(self, token: int) -> bytes:
        # A model's vocabulary is often padded beyond its tokenizer's.
        spelling = self._tokenizer.convert_ids_to_tokens(token) if 0 <= token < self.size else None
        return b"" if spelling is None else self._from_spelling(spelling)

    def _find_spelling(self) -> Callable[[str], bytes]:
        ids = self._tokenizer.encode(_PROBE, add_special_tokens=False)
        for from_spelling in (_byte_level, _sentence_piece):
            self._from_spelling = from_spelling
            try:
                written = b"".join(self._look_up(token) for token in ids)
            except UnknownVocabularyError:
                continue
            # SentencePiece may put a space before a text.
            self.drops_first_space = written == f" {_PROBE}".encode()
            if self.drops_first_space or written == _PROBE.encode():
                return from_spelling
        raise UnknownVocabularyError("its tokens are spelled neither as byte-level BPE nor as SentencePiece does")


class Detokenizer:
    """Fed with tokens one by one, gives back text of whole tokens and whole characters.

    Text waits until a token ends where a character does: so what was given back is always exactly the text of all
    tokens up to one of them.
    """

    __slots__ = ("_bytes_of", "_decoder", "_drops_space", "_waiting")

    def __init__(self, vocabulary: Vocabulary, *, continues: bool = False) -> None:
        self._bytes_of = vocabulary.bytes_of
        self._drops_space = vocabulary.drops_first_space and not continues
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._waiting = ""

    def feed(self, token: int) -> str:
        """Add a token; the text that became complete."""
        text = self._decoder.decode(self._bytes_of(token))
        if self._drops_space and text:
            self._drops_space = False
            text = text.removeprefix(" ")
        if self._decoder.getstate()[0]:
            self._waiting += text
            return ""
        if self._waiting:
            text, self._waiting = self._waiting + text, ""
        return text

    def end(self) -> str:
        """No more tokens: the whole characters that waited. A character that was only begun is left out."""
        text, self._waiting = self._waiting, ""
        return text


def _byte_level_alphabet() -> dict[str, int]:
    """The characters that byte-level BPE writes bytes as: printable Latin-1 as itself, the rest from U+0100 on."""
    printable: Sequence[int] = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in set(printable)]
    return alphabet | {chr(0x100 + at): byte for at, byte in enumerate(others)}


_ALPHABET = _byte_level_alphabet()


def _byte_level(spelling: str) -> bytes:
    try:
        return bytes(_ALPHABET[character] for character in spelling)
    except KeyError:
        raise UnknownVocabularyError from None


def _sentence_piece(spelling: str) -> bytes:
    byte = _BYTE.fullmatch(spelling)
    return bytes([int(byte[1], 16)]) if byte else spelling.replace(_SPACE, " ").encode()
