"""The settings of users in the database."""

from __future__ import annotations

from services.conversation.model import Settings
from services.runtime.clock import Clock
from services.runtime.database import Database


class UserStore:
    """What users have set."""

    def __init__(self, *, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def settings(self, *, user_id: str) -> Settings:
        """What a user has set; all of it empty when that is nothing."""
        rows = await self._database.statement(
            "SELECT custom_instructions, default_model, updated_at FROM conversation.user_settings"
            " WHERE user_id = %(user)s",
            {"user": user_id},
        )
        return Settings(*rows[0]) if rows else Settings()

    async def update(self, *, user_id: str, custom_instructions: str | None, default_model: str | None) -> Settings:
        """Change what is not None."""
        rows = await self._database.statement(
            "INSERT INTO conversation.user_settings AS s (user_id, custom_instructions, default_model, updated_at)"
            " VALUES (%(user)s, coalesce(%(instructions)s, ''), coalesce(%(model)s, ''), %(now)s)"
            " ON CONFLICT (user_id) DO UPDATE SET"
            " custom_instructions = coalesce(%(instructions)s, s.custom_instructions),"
            " default_model = coalesce(%(model)s, s.default_model), updated_at = %(now)s"
            " RETURNING custom_instructions, default_model, updated_at",
            {
                "user": user_id,
                "instructions": custom_instructions,
                "model": default_model,
                "now": self._clock.now(),
            },
        )
        return Settings(*rows[0])
