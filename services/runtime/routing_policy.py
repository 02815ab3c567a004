"""How the models file says that requests are routed: pools, priorities, the choice for `auto`, experiments, shadows.

A part of the models file; see `model_registry.py` for the whole. The Router acts on it.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:-]{0,127}")


def _as_name(value: str) -> str:
    # The same form as STRING_FORMAT_NAME of chatmesh.type.v1, so that every name of the file can be asked for.
    if not _NAME.fullmatch(value):
        raise ValueError(
            f"{value!r} is not a name: use letters, digits and . _ - / :, start with a letter or digit, "
            "at most 128 characters"
        )
    return value


Name = Annotated[str, AfterValidator(_as_name)]
RequestClass = Literal["simple", "code", "math", "reasoning", "long"]
"""What the classifier takes a request for."""
PriorityName = Literal["background", "low", "normal", "high"]
CapabilityName = Literal["chat", "tools", "vision", "json", "logprobs", "logit_bias", "penalties", "embeddings"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Prices(_Part):
    """US dollars per million tokens."""

    input_per_million: float = Field(ge=0, description="of the prompt")
    cached_input_per_million: float | None = Field(
        default=None, ge=0, description="of the part of the prompt found in the KV cache; as input when not given"
    )
    output_per_million: float = Field(ge=0, description="of the answer")

    @model_validator(mode="after")
    def _cached_is_no_dearer(self) -> Self:
        if self.cached_input_per_million is not None and self.cached_input_per_million > self.input_per_million:
            raise ValueError("cached_input_per_million is more than input_per_million; are they mixed up?")
        return self

    @property
    def cached_or_input_per_million(self) -> float:
        """Of the cached part of the prompt, whether the file says it or not."""
        return self.input_per_million if self.cached_input_per_million is None else self.cached_input_per_million


class Pool(_Part):
    """A group of replicas. A replica says by CHATMESH_POOL to which it belongs."""

    description: str = Field(default="", max_length=1000, description="one line for people")
    spill_over_at: float = Field(
        default=1.0, gt=0, description="generations per slot from which on a model's next pool is preferred"
    )


class Tier(_Part):
    """What the routing knows of a tier."""

    priority: PriorityName = Field(default="normal", description="its place in the queues of the replicas")


class Cascade(_Part):
    """A model that is asked first, and one that answers when the beginning of the first's answer is weak."""

    first: Name = Field(description="the cheap model")
    then: Name = Field(description="the model or alias that is asked when the first is too weak")
    probe_tokens: int = Field(default=24, ge=1, le=512, description="tokens of the first answer that are judged")
    min_mean_logprob: float | None = Field(
        default=None, le=0, description="mean log-probability of these below which the answer is weak"
    )
    weak_openings: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(
        default_factory=list, max_length=100, description="beginnings of weak answers, whatever their case"
    )


class Auto(_Part):
    """An alias whose model is chosen by what is asked, the tier, the queues, and the prices.

    A model is good enough when its skill in the class of the request, or else its quality, is at least how hard the
    request is. Among those the one with the least price and wait is taken; when none is, the best one.
    """

    models: list[Name] = Field(min_length=1, description="models to choose from")
    wait_cost_per_s: float = Field(
        default=0.0005, ge=0, description="US dollars that a second of waiting is worth, against the price"
    )
    examples: dict[RequestClass, list[Annotated[str, Field(min_length=1, max_length=500)]]] = Field(
        default_factory=dict, description="requests of each class, for the similarity of embeddings"
    )
    embedding_model: Name | None = Field(default=None, description="model that embeds them; none compares no meanings")
    cascade: Cascade | None = Field(default=None, description="used when its first model is the one that is chosen")


class Arm(_Part):
    """One arm of an experiment."""

    name: Name
    weight: float = Field(gt=0, description="its share of the users, against the weights of the other arms")
    model: Name | None = Field(default=None, description="model or alias that answers; none leaves it as it was asked")


class Experiment(_Part):
    """Users are dealt to its arms by a hash of their id: always to the same one."""

    name: Name
    alias: Name = Field(description="requests for this model or alias take part")
    share: float = Field(
        default=1.0, ge=0.0001, le=1, description="share of the users that take part, to a ten-thousandth"
    )
    group: Name | None = Field(
        default=None, description="no user takes part in two experiments of one group; their shares add up to at most 1"
    )
    tiers: list[Name] = Field(default_factory=list, description="tiers that take part; empty means all")
    arms: list[Arm] = Field(min_length=2)

    @model_validator(mode="after")
    def _arms_differ(self) -> Self:
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ValueError(f"experiment {self.name!r} has two arms of the same name")
        return self


class Shadow(_Part):
    """Copies of requests go to a second model; nobody sees its answers, and how it did is recorded."""

    name: Name
    alias: Name = Field(description="requests for this model or alias are copied")
    to: Name = Field(description="the model that gets the copies")
    share: float = Field(gt=0, le=1, description="share of the requests that are copied")
