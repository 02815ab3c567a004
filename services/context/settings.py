"""Settings of Context."""

from __future__ import annotations

from pydantic import Field

from services.runtime.settings import ServiceSettings


class ContextSettings(ServiceSettings):
    """What Context reads from its environment."""

    count_timeout_s: float = Field(5.0, gt=0, description="longest time to wait for a tokenizer")
    count_cache_entries: int = Field(200_000, ge=1, description="texts whose tokens are remembered, by hash")
