"""Settings of the Inference service."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from services.runtime.model_registry import ModelRegistry
from services.runtime.settings import ServiceSettings

_DEFAULT_MODELS_FILE = Path(__file__).resolve().parent.parent / "router" / "models.yaml"


class InferenceSettings(ServiceSettings):
    """What Inference reads from the environment."""

    models_file: Path = Field(_DEFAULT_MODELS_FILE, description="the models file that the Router reads, too")
    inference_models: str = Field(
        "", description="models to load, with commas between; empty takes all whose engine this build has"
    )
    inference_queue_limit: int = Field(
        32, ge=0, description="generations per model that may wait for a slot; more are refused"
    )

    @model_validator(mode="after")
    def _has_models(self) -> Self:
        # Here, so that --check-config refuses what the start would refuse.
        ModelRegistry.load(self.models_file)
        return self
