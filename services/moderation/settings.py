"""Settings of Moderation."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, PrivateAttr, model_validator

from services.moderation.policy import PACKAGED_POLICY, Policy
from services.runtime.settings import ServiceSettings


class ModerationSettings(ServiceSettings):
    """What Moderation reads from its environment."""

    policy_file: Path = Field(PACKAGED_POLICY, description="the policy, YAML")
    _policy: Policy = PrivateAttr()

    @property
    def policy(self) -> Policy:
        """The policy of the file."""
        return self._policy

    @model_validator(mode="after")
    def _load_policy(self) -> Self:
        # Here, so that --check-config refuses what the start would refuse.
        self._policy = Policy.load(self.policy_file)
        return self
