"""Settings of the Conversation service."""

from __future__ import annotations

from pydantic import Field

from services.runtime.settings import DatabaseUrl, RedisUrl, ServiceSettings, Target


class ConversationSettings(ServiceSettings):
    """Where its database and its peers are, and how long a turn may take."""

    database_url: DatabaseUrl = Field(description="PostgreSQL or CockroachDB URL", repr=False)
    redis_url: RedisUrl = Field(description="Redis or Valkey URL: the logs of generations", repr=False)
    router_address: Target = Field(description="gRPC target of the Router service")
    context_address: Target = Field(description="gRPC target of the Context service")
    moderation_address: Target = Field(description="gRPC target of the Moderation service")
    usage_address: Target = Field(description="gRPC target of the Usage service")
    database_pool_size: int = Field(8, ge=1, description="greatest number of database connections")
    first_token_timeout_s: float = Field(60.0, gt=0, description="longest wait for an answer's first token")
    stall_timeout_s: float = Field(10.0, gt=0, description="longest pause within an answer before another replica")
    recovery_timeout_s: float = Field(20.0, ge=0, description="longest search for a replica that continues an answer")
    title_model: str = Field("auto", description="model or alias that writes titles; empty: the question's first words")
    advertise_address: str = Field("", description="host:port at which the other servers reach this one; empty: listen")
    delete_grace_s: float = Field(
        30 * 86_400.0, ge=0, le=3_660 * 86_400.0, description="how long a deleted conversation can be undeleted"
    )
