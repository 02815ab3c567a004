"""Settings of the Conversation service."""

from __future__ import annotations

from pydantic import Field

from services.runtime.settings import DatabaseUrl, ServiceSettings, Target


class ConversationSettings(ServiceSettings):
    """Where its database and its peers are, and how long a turn may take."""

    database_url: DatabaseUrl = Field(description="PostgreSQL or CockroachDB URL", repr=False)
    router_address: Target = Field(description="gRPC target of the Router service")
    context_address: Target = Field(description="gRPC target of the Context service")
    moderation_address: Target = Field(description="gRPC target of the Moderation service")
    usage_address: Target = Field(description="gRPC target of the Usage service")
    database_pool_size: int = Field(8, ge=1, description="greatest number of database connections")
    first_token_timeout_s: float = Field(60.0, gt=0, description="longest wait for an answer's first token")
    stall_timeout_s: float = Field(30.0, gt=0, description="longest pause within an answer")
