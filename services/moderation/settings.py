"""Settings of Moderation."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, PrivateAttr, model_validator

from services.moderation.classifier import Classifier
from services.moderation.policy import PACKAGED_POLICY, Policy
from services.runtime.settings import DatabaseUrl, RedisUrl, ServiceSettings, SettingsError, Target
from services.runtime.watched_file import WatchedFile


class ModerationSettings(ServiceSettings):
    """What Moderation reads from its environment."""

    database_url: DatabaseUrl = Field(description="PostgreSQL or CockroachDB, for the review queue")
    redis_url: RedisUrl = Field(description="Redis or Valkey, for late verdicts")
    policy_file: Path = Field(PACKAGED_POLICY, description="the policy, YAML; loaded again when it changes")
    classifier_file: Path | None = Field(
        None, description="a trained classifier, .safetensors; default: the packaged one"
    )
    classifier_threads: int = Field(1, ge=1, le=64, description="batches of the classifier that run side by side")
    router_address: Target | None = Field(
        None, description="gRPC target of the Router service; needed by a policy that has a guard model"
    )
    _policy: WatchedFile[Policy] = PrivateAttr()
    _classifier: Classifier = PrivateAttr()

    @property
    def policy(self) -> WatchedFile[Policy]:
        """The policy of the file."""
        return self._policy

    @property
    def classifier(self) -> Classifier:
        """The classifier, loaded."""
        return self._classifier

    @model_validator(mode="after")
    def _load(self) -> Self:
        # Here, so that --check-config refuses what the start would refuse.
        self._classifier = classifier = Classifier.load(self.classifier_file)
        self._policy = WatchedFile(
            self.policy_file, kind="policy", load=lambda path: self._usable(Policy.load(path, points=classifier))
        )
        return self

    def _usable(self, policy: Policy) -> Policy:
        if policy.guard is not None and self.router_address is None:
            raise SettingsError(
                f"policy file {self.policy_file}: guard: the Router says where the model {policy.guard.model} runs; "
                "set CHATMESH_ROUTER_ADDRESS to its gRPC target, or remove the guard"
            )
        return policy
