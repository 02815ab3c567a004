"""Token counts: asked from the model's own tokenizer, each text once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Generic, Protocol, TypeVar

from services.context.model import Target, TemplateOverhead

KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")

_KNOWN_TEMPLATES = 1024


@dataclass(frozen=True, slots=True)
class Counts:
    """What a tokenizer says: the tokens of each text in order, and what the chat template adds."""

    tokens: tuple[int, ...]
    overhead: TemplateOverhead


class Tokenizer(Protocol):
    """A model's tokenizer, wherever it is."""

    async def count(self, *, address: str, model: str, texts: Sequence[str]) -> Counts:
        """Count the tokens of texts.

        Raises:
            DomainError: when the replica does not answer or does not have the model.
        """
        ...


class LruCache(Generic[KeyT, ValueT]):
    """Keeps the values that were used last."""

    def __init__(self, *, capacity: int) -> None:
        self._capacity = capacity
        self._values: OrderedDict[KeyT, ValueT] = OrderedDict()

    def get(self, key: KeyT) -> ValueT | None:
        """The value of a key, None when it is not kept."""
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def put(self, key: KeyT, value: ValueT) -> None:
        """Keep a value; the one unused for longest goes when there is no room."""
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._capacity:
            self._values.popitem(last=False)


class TokenCounter:
    """Counts tokens for the target of a turn, and remembers them by model and text.

    Messages do not change, so the history of a conversation is counted once and not once a turn. Texts are remembered
    by their hash: the cache takes some hundred bytes an entry however long they are, and holds nothing that can be
    read.
    """

    def __init__(self, *, tokenizer: Tokenizer, capacity: int) -> None:
        self._tokenizer = tokenizer
        self._counts: LruCache[tuple[str, bytes], int] = LruCache(capacity=capacity)
        self._overheads: LruCache[tuple[str, str], TemplateOverhead] = LruCache(capacity=_KNOWN_TEMPLATES)

    async def overhead(self, target: Target) -> TemplateOverhead:
        """What the template of the target's model adds.

        Raises:
            DomainError: as the tokenizer does.
        """
        known = self._overheads.get((target.model, target.tokenizer_address))
        return known or (await self._ask(target, ())).overhead

    async def count(self, target: Target, texts: Sequence[str]) -> tuple[dict[str, int], int]:
        """The tokens of each text, and how many tokens of them had to be counted anew.

        Raises:
            DomainError: as the tokenizer does.
        """
        keys = {text: (target.model, blake2b(text.encode(), digest_size=16).digest()) for text in texts}
        found = {text: tokens for text, key in keys.items() if (tokens := self._counts.get(key)) is not None}
        missing = [text for text in keys if text not in found]
        if not missing:
            return found, 0
        counts = await self._ask(target, missing)
        for text, tokens in zip(missing, counts.tokens, strict=True):
            found[text] = tokens
            self._counts.put(keys[text], tokens)
        return found, sum(counts.tokens)

    async def _ask(self, target: Target, texts: Sequence[str]) -> Counts:
        counts = await self._tokenizer.count(address=target.tokenizer_address, model=target.model, texts=texts)
        self._overheads.put((target.model, target.tokenizer_address), counts.overhead)
        return counts
