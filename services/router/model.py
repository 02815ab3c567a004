"""The words of the Router: what replicas report, what is asked, what is decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import NamedTuple

from services.router.experiments import Dealing, DealtArm
from services.runtime.model_registry import ModelEntry, ModelRegistry
from services.runtime.routing_policy import Cascade, PriorityName


@dataclass(frozen=True, slots=True)
class WaitingClass:
    """Generations of one priority that wait at a replica, and how long those before them waited."""

    priority: int
    queued: int
    wait_ms: float


@dataclass(frozen=True, slots=True)
class ModelLoad:
    """How busy one model of one replica is."""

    running: int
    queued: int
    slots: int
    tokens_per_second: float = 0.0
    first_token_ms: float = 0.0
    """Moving average over recent generations; 0 before the first."""
    queue_wait_ms: float = 0.0
    """The part of it that they waited for a place to run."""
    completed: int = 0
    """Generations that ended well since the process began."""
    failed: int = 0
    """Generations that its engine failed."""
    capabilities: frozenset[str] = frozenset()
    """What it can do, in the words of the models file; empty when the replica does not say."""
    kv_cache_usage: float = 0.0
    kv_cache_hit_rate: float = 0.0
    engine: str = ""
    context_length: int = 0
    waiting: tuple[WaitingClass, ...] = ()

    @property
    def arrived(self) -> int:
        """Generations that have come to it since the process began."""
        return self.running + self.queued + self.completed + self.failed


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """What a replica says about itself at one moment."""

    replica_id: str
    draining: bool
    models: Mapping[str, ModelLoad]
    pool: str = ""
    zone: str = ""
    region: str = ""


class Option(NamedTuple):
    """A replica that could take a generation of one model now. A tuple, for a dozen are made for each decision."""

    replica_id: str
    address: str
    slots: int
    in_flight: int
    """Generations it runs or has queued, those just sent to it included."""
    latency_ms: float
    """Expected time to the first token when nothing else runs."""
    hold_ms: float = 0.0
    """How long a generation holds a slot there; 0 when that is not known."""
    distance: int = 0
    """0 in the caller's zone, 1 in its region, 2 elsewhere."""
    pool: str = ""
    zone: str = ""
    region: str = ""


class Candidate(NamedTuple):
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
class PoolPreference:
    """A pool that may serve a model. From `spill_over_at` generations per slot on, the next one is preferred."""

    name: str
    spill_over_at: float = 1.0


@dataclass(frozen=True, slots=True)
class Outlook:
    """How a model stands in some pools and regions, all replicas that take work together."""

    ready: int
    slots: int
    in_flight: int
    wait_ms: float
    """Expected wait for a first token."""

    @property
    def load(self) -> float:
        """Generations per slot."""
        return self.in_flight / max(1, self.slots)


class BreakerState(Enum):
    """Whether a model of a replica is sent work."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class ModelView:
    """One model of one replica as this router sees it."""

    name: str
    load: ModelLoad
    leased: int
    score: float
    breaker: BreakerState


@dataclass(frozen=True, slots=True)
class ReplicaView:
    """One replica as this router sees it."""

    replica_id: str
    address: str
    pool: str
    zone: str
    region: str
    draining: bool
    silent_ms: float
    models: tuple[ModelView, ...]


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
    failed_replica_id: str = ""
    """The one of them that has failed this generation since the last call for it; empty for none."""
    affinity_keys: tuple[str, ...] = ()
    """What the prompt shares its beginning with, nearest first. Empty takes the conversation, if there is one."""
    last_replica_id: str = ""
    """The replica that ran the turn before, when the caller knows; so all routers know. Empty for none."""
    capabilities: frozenset[str] = frozenset()
    """What the model must be able to do, in the words of the models file."""
    zone: str = ""
    region: str = ""
    """Where the caller runs."""
    allowed_regions: frozenset[str] | None = None
    """Where the data of the caller may go; None is anywhere."""
    user_id: str = ""
    residency: str = ""
    """Where the user's data must stay, by its name in the models file; empty for anywhere."""
    prompt: str = field(default="", repr=False)
    """The end of what the user says. Never in a log or a span."""
    prompt_characters: int = 0
    """Characters of all that the user says."""
    escalated_from: str = ""
    """The model whose answer was too weak, when this asks for the next one of a cascade."""
    background: bool = False
    """Nobody waits for it."""
    continues: bool = False
    """The model was decided before, for an answer that goes on."""


@dataclass(frozen=True, slots=True)
class ModelScore:
    """A model that was considered, its cost (US dollars, lower is better), and why it was not taken; empty when it
    was."""

    model: str
    score: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ShadowLease:
    """Where a copy of a request goes."""

    name: str
    lease: Lease
    entry: ModelEntry
    ready_replicas: int


@dataclass(frozen=True, slots=True)
class Decision:
    """Where a generation runs, and why there."""

    lease: Lease
    requested_model: str
    entry: ModelEntry
    rule: str
    chosen: Option
    candidates: tuple[Candidate, ...]
    ready_replicas: int
    priority: PriorityName
    models: tuple[ModelScore, ...] = ()
    classification: str = ""
    experiments: tuple[DealtArm, ...] = ()
    escalated_from: str = ""
    cascade: Cascade | None = None
    shadows: tuple[ShadowLease, ...] = ()


@dataclass(frozen=True, slots=True)
class LoadedRegistry:
    """A registry that was read and found sound, and when."""

    registry: ModelRegistry
    entries: Mapping[str, ModelEntry]
    loaded: datetime
    dealing: Dealing = field(default_factory=lambda: Dealing(()))
    """Its experiments."""
