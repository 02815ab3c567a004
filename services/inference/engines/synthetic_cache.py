"""The KV cache of the synthetic engine: which starts of prompts it knows, so that a router can be seen to matter."""

from __future__ import annotations

import zlib
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass

from services.inference.engines import synthetic_text
from services.inference.model import EngineStats, Message, Role

_RECENT = 64
"""Prompts that the hit rate is of."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """The start of a chat up to one of its messages: what tells it from others, and the tokens of that message."""

    key: int
    tokens: int


def prefixes(messages: Sequence[Message]) -> list[Prefix]:
    """The starts of a chat, the shortest first."""
    found: list[Prefix] = []
    key = 0
    for message in messages:
        key = _after(key, message)
        found.append(Prefix(key, synthetic_text.count_message_tokens(message)))
    return found


class PrefixCache:
    """Keeps the starts of chats, message by message, up to a number of tokens; who was used last stays longest."""

    __slots__ = ("_capacity", "_kept", "_recent", "_tokens")

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._kept: OrderedDict[int, int] = OrderedDict()
        self._tokens = 0
        self._recent: deque[tuple[int, int]] = deque(maxlen=_RECENT)

    def look_up(self, chat: Sequence[Prefix]) -> int:
        """Tokens of the longest start that is known. The chat is known from then on."""
        cached = 0
        for prefix in chat:
            if prefix.key not in self._kept:
                break
            cached += prefix.tokens
        total = synthetic_text.TOKENS_PER_PROMPT + sum(prefix.tokens for prefix in chat)
        self._recent.append((cached, total))
        self._keep(chat)
        return cached

    def add_answer(self, chat: Sequence[Prefix], answer: str, tokens: int) -> None:
        """A chat has got an answer, and the next turn begins with both."""
        key = _after(chat[-1].key if chat else 0, Message(Role.ASSISTANT, answer))
        self._keep([*chat, Prefix(key, tokens + synthetic_text.TOKENS_PER_MESSAGE)])

    def stats(self) -> EngineStats:
        """How full it is, and how often it helped."""
        prompts = sum(total for _, total in self._recent)
        cached = sum(found for found, _ in self._recent)
        return EngineStats(
            kv_cache_usage=min(1.0, self._tokens / self._capacity),
            kv_cache_hit_rate=cached / prompts if prompts else 0.0,
        )

    def _keep(self, chat: Sequence[Prefix]) -> None:
        # The longest first, so that it is also the first to go: without its start it is of no use.
        for prefix in reversed(chat):
            if prefix.key in self._kept:
                self._kept.move_to_end(prefix.key)
            else:
                self._kept[prefix.key] = prefix.tokens
                self._tokens += prefix.tokens
        while self._tokens > self._capacity:
            _, tokens = self._kept.popitem(last=False)
            self._tokens -= tokens


def _after(key: int, message: Message) -> int:
    calls = "".join(f"\0{call.name}\0{call.arguments}" for call in message.tool_calls)
    # Two sums of different kinds, so that no two chats of a test are taken for one.
    data = f"{key}\0{message.role.value}\0{message.content}{calls}".encode()
    return zlib.crc32(data) << 32 | zlib.adler32(data)
