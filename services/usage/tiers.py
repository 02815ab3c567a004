"""The tiers file: what each tier allows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.runtime.typed_file import load_typed_file
from services.usage.model import RateLimit

PACKAGED_TIERS = Path(__file__).with_name("tiers.yaml")

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class RateEntry(BaseModel):
    """How many requests may come."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    requests_per_minute: int = Field(ge=1, le=10_000_000)
    burst: int | None = Field(None, ge=1, le=10_000_000)

    def rate(self, name: str) -> RateLimit:
        """The limit under a name."""
        return RateLimit(name, self.requests_per_minute, self.burst or self.requests_per_minute)


class TierEntry(RateEntry):
    """One tier."""

    tokens_per_day: int = Field(ge=0, le=10**15)


class Tiers(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    default: Name = Field(description="the tier of those whose tier the file does not have")
    tiers: dict[Name, TierEntry] = Field(min_length=1)
    anonymous: RateEntry

    @model_validator(mode="after")
    def _default_is_there(self) -> Self:
        if self.default not in self.tiers:
            raise ValueError(f"the default tier {self.default!r} is not one of {', '.join(sorted(self.tiers))}")
        return self

    def resolve(self, tier: str) -> str:
        """The tier that counts for a caller of `tier`."""
        return tier if tier in self.tiers else self.default

    @classmethod
    def load(cls, path: Path) -> Tiers:
        """Read and check a tiers file.

        Raises:
            SettingsError: naming the file, the entry and what is wrong with it.
        """
        return load_typed_file(path, cls, kind="tiers")
