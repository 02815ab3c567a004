"""Settings of the Router."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from services.runtime.model_registry import ModelRegistry
from services.runtime.settings import ServiceSettings, SettingsError

_DEFAULT_MODELS_FILE = Path(__file__).with_name("models.yaml")


class RouterSettings(ServiceSettings):
    """What the Router reads from its environment."""

    models_file: Path = Field(_DEFAULT_MODELS_FILE, description="the models file, YAML; read again when it changes")
    models_poll_s: float = Field(1.0, gt=0, description="seconds between two looks at the models file")
    inference_addresses: str = Field("", description="gRPC targets of the inference replicas, with commas between")
    status_silence_s: float = Field(3.0, gt=0, description="seconds without a report after which a replica is gone")
    lease_ttl_s: float = Field(10.0, gt=0, description="seconds that a lease counts as load when nothing comes of it")
    lease_settle_s: float = Field(0.25, ge=0, description="seconds that a generation takes from lease to replica")

    embed_timeout_s: float = Field(
        0.15, gt=0, description="longest wait for the embedding of a request that the classifier is unsure of, seconds"
    )

    @property
    def inference_targets(self) -> tuple[str, ...]:
        """The inference addresses, each once, in order."""
        addresses = (address.strip() for address in self.inference_addresses.split(","))
        return tuple(dict.fromkeys(address for address in addresses if address))

    @model_validator(mode="after")
    def _can_route(self) -> Self:
        # Here, so that --check-config refuses what the start would refuse.
        if not self.inference_targets:
            raise SettingsError("CHATMESH_INFERENCE_ADDRESSES: name at least one inference replica, host:port")
        ModelRegistry.load(self.models_file)
        return self
