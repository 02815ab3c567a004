"""The text of the synthetic engine: made of a seed, cut into tokens by a rule that fits in a line.

A token is up to five ASCII characters or two bytes of others, with the space before them. So tokens of most languages
end in the middle of characters, as those of real models do.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice

from services.inference.engines.utf8 import Utf8Assembler
from services.inference.model import Message, Role

TOKENS_PER_MESSAGE = 4
TOKENS_PER_PROMPT = 3
VOCABULARY = 32_000
TAPE_TOKENS = 8_192

_TOKEN = re.compile(rb" ?[^ \x80-\xff]{1,5}| ?[\x80-\xff]{1,2}| ")
_WORDS = (
    *("mesh", "stream", "token", "window", "quiet", "answer", "river", "signal", "copper", "lantern", "harbour"),
    *("number", "garden", "pattern", "summer", "winter", "letter", "engine", "distant", "steady", "wooden"),
    *("silver", "market", "bridge", "corner", "record", "simple", "measure", "whole", "naïve", "déjà-vu", "Straße"),
    *("smörgåsbord", "日本語", "العربية", "हिन्दी", "😀", "👩🏽‍🚀"),
)
_ENDS = (".", "?", "!", ":", ".\n")


@dataclass(frozen=True, slots=True)
class Tape:
    """Tokens in order.

    `texts[i]` is the text that becomes complete with token i, `ids[i]` its id and `pieces[i]` its bytes.
    """

    texts: tuple[str, ...]
    ids: tuple[int, ...]
    pieces: tuple[bytes, ...]


NO_TAPE = Tape((), (), ())


@dataclass(frozen=True, slots=True)
class EndlessTape(Tape):
    """A tape that begins again at its end. `starts` are the places of its sentences."""

    starts: tuple[int, ...]

    def start(self, seed: int) -> int:
        """The place where an answer begins."""
        return self.starts[seed % len(self.starts)]


def count_tokens(text: str) -> int:
    """Tokens of a text."""
    return len(_TOKEN.findall(text.encode()))


def count_message_tokens(message: Message) -> int:
    """Tokens of a message in a prompt, its calls and what the template adds included."""
    tokens = TOKENS_PER_MESSAGE + count_tokens(message.content)
    return tokens + sum(count_tokens(call.name) + count_tokens(call.arguments) for call in message.tool_calls)


def token_id(piece: bytes) -> int:
    """The id of a token."""
    return zlib.crc32(piece) % VOCABULARY


def cut(text: str) -> Tape:
    """The tokens of a text."""
    assembler = Utf8Assembler()
    pieces = _TOKEN.findall(text.encode())
    return Tape(
        texts=tuple(assembler.feed(piece) for piece in pieces),
        ids=tuple(token_id(piece) for piece in pieces),
        pieces=tuple(pieces),
    )


def seed_of(messages: Sequence[Message], seed: int | None) -> int:
    """The seed of an answer: a function of the prompt and the request's seed, and of nothing else."""
    value = zlib.crc32(str(seed).encode())
    for message in messages:
        value = zlib.crc32(f"{message.role.value}\0{message.content}\0".encode(), value)
    return value


def preface(*, seed: int | None, messages: Sequence[Message], tokens: int) -> str:
    """What every answer begins with, so that nobody takes it for a model's. `tokens` are those of the messages."""
    said = "" if seed is None else f" with seed {seed}"
    return f"This is the synthetic engine, not a model{said}. It was given {len(messages)} messages, {tokens} tokens."


@cache
def endless_tape() -> EndlessTape:
    """Sentences that all answers share, each from a place of its own: drawn once, so that a token costs a lookup."""
    texts: list[str] = []
    ids: list[int] = []
    pieces: list[bytes] = []
    starts: list[int] = []
    state = 1
    while len(ids) < TAPE_TOKENS:
        words: list[str] = []
        for _ in range(5 + state % 9):
            state = _next(state)
            words.append(_WORDS[(state >> 16) % len(_WORDS)])
        state = _next(state)
        sentence = cut(" " + " ".join(words).capitalize() + _ENDS[(state >> 16) % len(_ENDS)])
        starts.append(len(ids))
        texts += sentence.texts
        ids += sentence.ids
        pieces += sentence.pieces
    return EndlessTape(tuple(texts), tuple(ids), tuple(pieces), tuple(starts))


@cache
def vocabulary() -> Mapping[int, str]:
    """Tokens of answers that are whole characters, by their ids: those that a bias can ask for."""
    found: dict[int, str] = {}
    for tape in (endless_tape(), cut(preface(seed=0, messages=(), tokens=0))):
        for text, known, piece in zip(tape.texts, tape.ids, tape.pieces, strict=True):
            if text.encode() == piece:
                found.setdefault(known, text)
    return found


def other_tokens(token: int, count: int) -> list[bytes]:
    """So many tokens that are not this one."""
    known = vocabulary()
    start = token % len(known)
    ids = [*islice(known, start, None), *islice(known, start)]
    return [known[other].encode() for other in ids if other != token][:count]


def open_answer(messages: Sequence[Message]) -> tuple[Sequence[Message], str]:
    """The prompt, and the start of the answer when the last message is one of the assistant, to be continued."""
    if messages and messages[-1].role is Role.ASSISTANT:
        return messages[:-1], messages[-1].content
    return messages, ""


def _next(state: int) -> int:
    return (state * 1_103_515_245 + 12_345) % 2**31
