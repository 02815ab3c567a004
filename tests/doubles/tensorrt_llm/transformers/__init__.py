"""A tokenizer as Hugging Face's: byte-level BPE in which characters beyond ASCII take several tokens.

The folder that is loaded says which family the model is of: `double/qwen` has marks for calls of tools, `double/llama`
writes calls as JSON alone, and the template of `double/plain` knows no tools and no system messages.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

FAMILIES = ("qwen", "llama", "plain")
PADDING = 17
"""Tokens that the model has and its tokenizer does not."""

_WORDS = (
    "Hello", " the", " a", " and", " of", " sailor", " sea", " ship", " wind", " was", " in", " to", " old", " harbour",
    " night", " story", "ing", "ed", " is", " capital", " Paris", " France", " {", "\": ", ", \"", "word", " word",
    "The", "name", "arguments", "city", "ar", "er", "on", "ti",
)  # fmt: skip
_SPECIAL = ("<|begin|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|end|>")
_MARKS = ("<tool_call>", "</tool_call>")


@dataclass(frozen=True)
class AddedToken:
    content: str
    special: bool

    def __str__(self) -> str:
        return self.content


def _alphabet() -> dict[int, str]:
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    spelled = {byte: chr(byte) for byte in printable}
    for byte in range(256):
        if byte not in spelled:
            spelled[byte] = chr(0x100 + len([other for other in range(byte) if other not in printable]))
    return spelled


_SPELLED = _alphabet()


class PreTrainedTokenizerFast:
    """Longest match over the words of the vocabulary, and bytes where there is none."""

    def __init__(self, family: str) -> None:
        self.family = family
        pieces = [bytes([byte]) for byte in range(256)] + [word.encode() for word in _WORDS]
        # A token that ends one character and begins the next.
        pieces += ["é".encode() + "é".encode()[:1], "本".encode()[:2]]
        self._pieces = pieces
        self._by_piece = {piece: at for at, piece in enumerate(pieces)}
        self._longest = max(map(len, pieces))
        added = [AddedToken(text, special=True) for text in _SPECIAL]
        if family == "qwen":
            added += [AddedToken(text, special=False) for text in _MARKS]
        self.added_tokens_decoder = {len(pieces) + at: token for at, token in enumerate(added)}
        self._added = {token.content: at for at, token in self.added_tokens_decoder.items()}
        self._split = re.compile("(" + "|".join(map(re.escape, self._added)) + ")")
        self.all_special_ids = [at for at, token in self.added_tokens_decoder.items() if token.special]
        self.eos_token_id = self._added["<|end|>"]
        self.vocab_size = len(pieces)

    def __len__(self) -> int:
        return len(self._pieces) + len(self.added_tokens_decoder)

    def id_of(self, special: str) -> int:
        return self._added[special]

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        ids = [self.id_of("<|begin|>")] if add_special_tokens else []
        for place, part in enumerate(self._split.split(text)):
            ids += [self._added[part]] if place % 2 else self._encode_plain(part.encode())
        return ids

    def _encode_plain(self, data: bytes) -> list[int]:
        ids: list[int] = []
        at = 0
        while at < len(data):
            for length in range(min(self._longest, len(data) - at), 0, -1):
                found = self._by_piece.get(data[at : at + length])
                if found is not None:
                    ids.append(found)
                    at += length
                    break
        return ids

    def bytes_of(self, token: int) -> bytes:
        if token < len(self._pieces):
            return self._pieces[token]
        entry = self.added_tokens_decoder.get(token)
        return b"" if entry is None or entry.special else entry.content.encode()

    def decode(self, ids: list[int], skip_special_tokens: bool = False) -> str:
        return b"".join(self.bytes_of(token) for token in ids).decode(errors="replace")

    def convert_ids_to_tokens(self, token: int) -> str | None:
        if token < len(self._pieces):
            return "".join(_SPELLED[byte] for byte in self._pieces[token])
        entry = self.added_tokens_decoder.get(token)
        return None if entry is None else entry.content

    def apply_chat_template(
        self,
        conversation: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None = None,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        tokenize: bool = True,
    ) -> str:
        assert not tokenize
        text = "<|begin|>"
        if tools and self.family != "plain":
            text += f"<|system|>Tools: {json.dumps(tools)}<|end|>"
        last = ""
        for message in conversation:
            if last == message["role"]:
                raise ValueError(f"Conversation roles must alternate, and {message['content']!r} follows its like")
            last = message["role"]
            if last == "system" and self.family == "plain":
                raise ValueError("System role not supported")
            content = message["content"]
            for call in message.get("tool_calls", ()):
                content += f"\n{json.dumps(call['function'])}"
            text += f"<|{last}|>{content}"
            if not (continue_final_message and message is conversation[-1]):
                text += "<|end|>"
        return f"{text}<|assistant|>" if add_generation_prompt else text


class AutoTokenizer:
    @staticmethod
    def from_pretrained(source: str, *, trust_remote_code: bool = False) -> PreTrainedTokenizerFast:
        family = source.rpartition("/")[2]
        if family not in FAMILIES:
            raise OSError(f"{source} is not a local folder and is not a valid model identifier")
        return PreTrainedTokenizerFast(family)


class AutoConfig:
    @staticmethod
    def from_pretrained(source: str, *, trust_remote_code: bool = False) -> SimpleNamespace:
        tokenizer = AutoTokenizer.from_pretrained(source)
        return SimpleNamespace(vocab_size=len(tokenizer) + PADDING)
