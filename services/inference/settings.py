"""Settings of the Inference service."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from services.runtime.model_registry import ModelRegistry
from services.runtime.settings import ServiceSettings, SettingsError

_DEFAULT_MODELS_FILE = Path(__file__).resolve().parent.parent / "router" / "models.yaml"


class InferenceSettings(ServiceSettings):
    """What Inference reads from the environment."""

    models_file: Path = Field(_DEFAULT_MODELS_FILE, description="the models file that the Router reads, too")
    inference_models: str = Field(
        "", description="models to load, with commas between; empty takes all that this process's pool serves"
    )
    inference_queue_limit: int = Field(
        32, ge=0, description="generations per model that may wait for a slot; more are refused"
    )

    inference_queue_timeout_s: float = Field(
        30.0, gt=0, le=600, description="longest wait for a slot, for requests that do not say how long they may wait"
    )
    inference_oldest_every: int = Field(
        8,
        ge=0,
        description="each so many-th slot goes to whoever has waited longest, whatever its priority, so that nobody "
        "waits for ever; 0 never",
    )
    pool: str = Field(
        "", max_length=128, description="pool that this process belongs to; it serves models that name it, or none"
    )

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        # Here, so that --check-config refuses what the start would refuse.
        registry = ModelRegistry.load(self.models_file)
        if self.pool and registry.pools and self.pool not in registry.pools:
            known = ", ".join(sorted(registry.pools))
            raise SettingsError(f"CHATMESH_POOL names {self.pool!r}, which the models file lacks; it has {known}")
        return self
