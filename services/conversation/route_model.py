"""Who answers, why, and what that costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum

from services.conversation.chat_model import TokenUsage
from services.conversation.moderation_model import ModerationReceipt


class Capability(StrEnum):
    """What a model can do."""

    CHAT = "chat"
    TOOLS = "tools"
    VISION = "vision"
    JSON = "json"
    LOGPROBS = "logprobs"
    LOGIT_BIAS = "logit_bias"
    PENALTIES = "penalties"
    EMBEDDINGS = "embeddings"


class Priority(IntEnum):
    """How urgent a generation is; the values are those of the contract."""

    UNSPECIFIED = 0
    BACKGROUND = 1
    LOW = 2
    NORMAL = 3
    HIGH = 4


@dataclass(frozen=True, slots=True)
class Candidate:
    """A replica that could have answered."""

    model: str
    replica_id: str
    score: float
    in_flight: int
    pool: str = ""
    region: str = ""


WEAK_ANSWER = "weak_answer"
"""Why a model that was taken is not the one that answered."""


@dataclass(frozen=True, slots=True)
class ModelCandidate:
    """A model that was considered, and why it was not taken; no reason for the one that was."""

    model: str
    score: float
    reason: str


def after_cascade(models: Sequence[ModelCandidate], *, weak: str, model: str) -> tuple[ModelCandidate, ...]:
    """What was considered, when the answer of `weak` was not shown and `model` gave another."""
    reasons = {weak: WEAK_ANSWER, model: ""}
    return tuple(replace(each, reason=reasons.get(each.model, each.reason)) for each in models)


@dataclass(frozen=True, slots=True)
class ExperimentArm:
    """The arm of an experiment that a user is in."""

    experiment: str
    arm: str


@dataclass(frozen=True, slots=True)
class RouteReceipt:
    """Why an answer was generated where it was, and what it took there."""

    requested_model: str
    model: str
    engine: str
    replica_id: str
    rule: str
    candidates: tuple[Candidate, ...] = ()
    models: tuple[ModelCandidate, ...] = ()
    classification: str = ""
    experiments: tuple[ExperimentArm, ...] = ()
    pool: str = ""
    zone: str = ""
    region: str = ""
    escalated_from: str = ""
    queue_ms: float = 0.0
    """At the replica, before its engine began."""
    first_token_ms: float = 0.0
    """From its arrival at the replica."""
    retries: int = 0
    """Replicas that were tried before this one."""
    epochs: int = 0
    cost_nano_usd: int | None = None
    """Billionths of a US dollar; None when the model has no prices."""
    moderation: ModerationReceipt | None = None


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars per million tokens."""

    input: float
    cached_input: float
    output: float

    def cost_nano_usd(self, usage: TokenUsage) -> int:
        """What an answer costs, in billionths of a US dollar."""
        cached = min(usage.cached_tokens, usage.prompt_tokens)
        micros = (
            (usage.prompt_tokens - cached) * self.input
            + cached * self.cached_input
            + usage.completion_tokens * self.output
        )
        return round(micros * 1000)


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the registry, as far as a turn needs it. Lengths in tokens, `created` in Unix seconds."""

    name: str
    context_length: int
    max_output_tokens: int
    default_system_prompt: str
    created: int = 0
    tiers: tuple[str, ...] = ()
    """Tiers that may use it; empty means all."""
    capabilities: frozenset[Capability] = frozenset()
    prices: Prices | None = None


@dataclass(frozen=True, slots=True)
class Cascade:
    """How to tell from the beginning of an answer that a stronger model is needed; `model` is the one to ask then."""

    model: str
    probe_tokens: int
    min_mean_logprob: float | None
    weak_openings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ShadowRoute:
    """Where a copy of a request goes whose answer nobody sees."""

    name: str
    address: str
    replica_id: str
    model: Model


@dataclass(frozen=True, slots=True)
class RouteQuery:
    """What is to be routed. The contract says what each member means."""

    generation_id: str
    model: str
    conversation_id: str = ""
    affinity_keys: tuple[str, ...] = ()
    last_replica_id: str = ""
    prompt: str = ""
    prompt_characters: int = 0
    capabilities: frozenset[Capability] = frozenset()
    excluded: tuple[str, ...] = ()
    failed: str = ""
    escalated_from: str = ""
    background: bool = False
    continues: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """Where a generation runs."""

    address: str
    replica_id: str
    model: Model
    receipt: RouteReceipt
    cascade: Cascade | None = None
    shadows: tuple[ShadowRoute, ...] = ()
    priority: Priority = Priority.UNSPECIFIED
