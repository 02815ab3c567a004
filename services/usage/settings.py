"""Settings of Usage."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, PrivateAttr, model_validator

from services.runtime.settings import DatabaseUrl, RedisUrl, ServiceSettings
from services.usage.tiers import PACKAGED_TIERS, Tiers


class UsageSettings(ServiceSettings):
    """What Usage reads from its environment."""

    database_url: DatabaseUrl = Field(description="PostgreSQL or CockroachDB, postgresql://...")
    redis_url: RedisUrl = Field(description="Redis or Valkey: redis://, rediss:// or unix://")
    redis_timeout_s: float = Field(0.25, gt=0, description="longest wait for one answer of Redis")
    tiers_file: Path = Field(PACKAGED_TIERS, description="the tiers, YAML")
    lease_ttl_s: float = Field(900.0, gt=0, description="seconds after which tokens set aside fall back")
    rate_limit_fail_open: bool = Field(True, description="let requests pass when Redis does not answer")
    quota_fail_open: bool = Field(True, description="grant leases when Redis does not answer")
    _tiers: Tiers = PrivateAttr()

    @property
    def tiers(self) -> Tiers:
        """The tiers of the file."""
        return self._tiers

    @model_validator(mode="after")
    def _load_tiers(self) -> Self:
        # Here, so that --check-config refuses what the start would refuse.
        self._tiers = Tiers.load(self.tiers_file)
        return self
