"""What a request is about by embeddings, where the rules leave room for doubt.

It is a help and never a condition: without vectors, without a replica or without an answer in time the rules decide.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.router.classifier import Classification
from services.router.fleet import Fleet
from services.router.model import LoadedRegistry, PoolPreference, RouteQuery
from services.router.registry_file import RegistrySource
from services.router.similarity import ClassVectors, Vector, combine, nearness
from services.runtime.clock import Clock
from services.runtime.errors import DomainError
from services.runtime.model_registry import ModelEntry, ModelRegistry
from services.runtime.routing_policy import Auto, RequestClass

_log = logging.getLogger(__name__)

EXAMPLES_TIMEOUT_S = 30.0
EXAMPLES_PER_CALL = 128
EMBEDDED_CHARACTERS = 1000
"""Of the end of a prompt. An embedding model's context is short, and its time grows with the text."""
PATIENCE = 3
"""Failures in a row after which nobody is made to wait for embeddings for `PAUSE_S`."""
PAUSE_S = 5.0


class Embeddings(Protocol):
    """Where vectors come from."""

    async def embed(self, address: str, *, model: str, texts: Sequence[str], timeout_s: float) -> list[Vector]:
        """The vectors of these texts.

        Raises:
            DomainError: when they cannot be had in time.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Known:
    """The vectors of the examples of one alias, and what they were made of."""

    auto: Auto
    entry: ModelEntry
    vectors: ClassVectors


def pool_preferences(registry: ModelRegistry, entry: ModelEntry) -> list[PoolPreference]:
    """The pools that serve a model, as the fleet wants them."""
    return [PoolPreference(name, registry.pools[name].spill_over_at) for name in entry.pools]


class Meaning:
    """Holds the vectors of the examples of the registry in force, and compares requests with them."""

    def __init__(
        self,
        *,
        registry: RegistrySource,
        fleet: Fleet,
        embeddings: Embeddings,
        clock: Clock,
        timeout_s: float,
        count: Callable[[str], None],
    ) -> None:
        """`count` is told how each comparison ended: `compared`, `not_ready`, `no_replica`, `failed` or `paused`."""
        self._registry = registry
        self._fleet = fleet
        self._embeddings = embeddings
        self._clock = clock
        self._timeout_s = timeout_s
        self._count = count
        self._known: dict[str, _Known] = {}
        self._failures = 0
        self._paused_until = 0.0

    async def run(self, *, interval_s: float = 0.5) -> None:
        """Keep the vectors of the examples in step with the registry; for ever."""
        while True:
            loaded = self._registry.current
            for name, auto in loaded.registry.auto.items():
                if auto.embedding_model is not None:
                    await self._learn(name, auto, loaded)
            await asyncio.sleep(interval_s)

    async def refine(
        self, by_rules: Classification, *, name: str, auto: Auto, loaded: LoadedRegistry, query: RouteQuery
    ) -> Classification:
        """The same classification, or a better one when the rules are unsure and the examples can be asked."""
        if by_rules.is_sure or auto.embedding_model is None or not query.prompt.strip():
            return by_rules
        known = self._known.get(name)
        if known is None or known.auto is not auto:
            self._count("not_ready")
            return by_rules
        if self._clock.monotonic() < self._paused_until:
            self._count("paused")
            return by_rules
        address = self._place(known.entry, loaded, query)
        if not address:
            self._count("no_replica")
            return by_rules
        try:
            vectors = await self._embeddings.embed(
                address,
                model=known.entry.name,
                texts=[query.prompt[-EMBEDDED_CHARACTERS:]],
                timeout_s=self._timeout_s,
            )
            near = nearness(vectors[0], known.vectors) if vectors else {}
        except DomainError:
            self._failed()
            return by_rules
        self._failures = 0
        self._count("compared")
        return combine(by_rules, near)

    def _failed(self) -> None:
        self._count("failed")
        self._failures += 1
        if self._failures >= PATIENCE:
            self._failures = 0
            self._paused_until = self._clock.monotonic() + PAUSE_S

    async def _learn(self, name: str, auto: Auto, loaded: LoadedRegistry) -> None:
        entry = loaded.entries[auto.embedding_model or ""]
        known = self._known.get(name)
        if known is not None and known.auto == auto and known.entry == entry:
            if known.auto is not auto:
                self._known[name] = _Known(auto, entry, known.vectors)
            return
        texts = [(kind, text) for kind, examples in auto.examples.items() for text in examples]
        vectors: dict[RequestClass, list[Vector]] = {}
        for start in range(0, len(texts), EXAMPLES_PER_CALL):
            part = texts[start : start + EXAMPLES_PER_CALL]
            address = self._place(entry, loaded, RouteQuery(generation_id=f"examples of {name}", model=entry.name))
            if not address:
                return
            try:
                found = await self._embeddings.embed(
                    address, model=entry.name, texts=[text for _, text in part], timeout_s=EXAMPLES_TIMEOUT_S
                )
            except DomainError as error:
                _log.warning("examples not embedded", extra={"alias": name, "why": error.message})
                return
            if len(found) != len(part):
                _log.warning("examples not embedded", extra={"alias": name, "why": "fewer vectors than texts"})
                return
            for (kind, _), vector in zip(part, found, strict=True):
                vectors.setdefault(kind, []).append(vector)
        self._known[name] = _Known(auto, entry, vectors)
        _log.info("examples embedded", extra={"alias": name, "examples": len(texts)})

    def _place(self, entry: ModelEntry, loaded: LoadedRegistry, query: RouteQuery) -> str:
        """The address of a replica that embeds; empty when there is none where the user's data may go."""
        asked = RouteQuery(
            generation_id=f"{query.generation_id}/embedding",
            model=entry.name,
            zone=query.zone,
            region=query.region,
            allowed_regions=query.allowed_regions,
        )
        pools = pool_preferences(loaded.registry, entry)
        placement = self._fleet.place(asked, model=entry.name, pools=pools, now=self._clock.monotonic())
        return placement.chosen.option.address if placement is not None else ""
