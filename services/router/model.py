"""The words of the Router: what replicas report, what is asked, what is decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from services.runtime.model_registry import ModelEntry, ModelRegistry


@dataclass(frozen=True, slots=True)
class ModelLoad:
    """How busy one model of one replica is."""

    running: int
    queued: int
    slots: int
    tokens_per_second: float = 0.0
    first_token_ms: float = 0.0
    """Moving average over recent generations; 0 before the first."""


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """What a replica says about itself at one moment."""

    replica_id: str
    draining: bool
    models: Mapping[str, ModelLoad]


@dataclass(frozen=True, slots=True)
class Option:
    """A replica that could take a generation of one model now."""

    replica_id: str
    address: str
    slots: int
    in_flight: int
    """Generations it runs or has queued, those just sent to it included."""
    latency_ms: float
    """Expected time to the first token when nothing else runs."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An option with its score: the expected wait, lower is better."""

    option: Option
    score: float


@dataclass(frozen=True, slots=True)
class Placement:
    """The choice of a replica: the chosen one, all that were considered (best first), and the rule that decided."""

    chosen: Candidate
    ranked: tuple[Candidate, ...]
    rule: str


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to send one generation to one replica."""

    lease_id: str
    replica_id: str
    address: str
    expires: datetime


@dataclass(frozen=True, slots=True)
class RouteQuery:
    """What is to be routed, and for whom. `tier` is empty when the call carries no identity."""

    generation_id: str
    model: str
    conversation_id: str = ""
    tier: str = ""
    excluded_replica_ids: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class Decision:
    """Where a generation runs, and why there."""

    lease: Lease
    requested_model: str
    entry: ModelEntry
    rule: str
    candidates: tuple[Candidate, ...]
    ready_replicas: int


@dataclass(frozen=True, slots=True)
class LoadedRegistry:
    """A registry that was read and found sound, and when."""

    registry: ModelRegistry
    entries: Mapping[str, ModelEntry]
    loaded: datetime
