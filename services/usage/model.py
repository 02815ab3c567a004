"""The words of usage."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum


class Surface(StrEnum):
    """Which API a request came by; errors have that API's form."""

    NATIVE = "native"
    OPENAI = "openai"


@dataclass(frozen=True, slots=True)
class RateLimit:
    """So many requests a minute in the long run, `burst` of them at once. `name` is its tier's."""

    name: str
    requests_per_minute: int
    burst: int


@dataclass(frozen=True, slots=True)
class RateQuery:
    """One thing to count: whose requests, against which limit, how many."""

    key: str
    limit: RateLimit
    hits: int


@dataclass(frozen=True, slots=True)
class RateStanding:
    """Where one counter stands after a check. `retry_s` is 0 when the request fits."""

    limit: RateLimit
    allowed: bool
    remaining: int
    retry_s: float
    reset_s: float


@dataclass(frozen=True, slots=True)
class Lease:
    """Tokens that are set aside for a generation."""

    granted: int
    remaining: int
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class QuotaStanding:
    """Tokens of one user on one day."""

    used: int
    reserved: int


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """What one generation used."""

    generation_id: str
    user_id: str
    conversation_id: str
    model: str
    tier: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    finish_reason: str
    ended_at: datetime

    @property
    def tokens(self) -> int:
        """What counts against the quota."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def day(self) -> date:
        """The day it counts for, UTC."""
        return self.ended_at.date()


@dataclass(frozen=True, slots=True)
class DailyUsage:
    """Use of one model on one day."""

    day: date
    model: str
    generations: int
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class UsageReport:
    """A user's use and quota."""

    daily: tuple[DailyUsage, ...]
    tier: str
    tokens_per_day: int
    tokens_today: int
