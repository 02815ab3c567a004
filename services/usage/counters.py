"""Scripts that Redis runs as one step, and what is known of whether it answers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

from services.runtime.clock import Clock

_log = logging.getLogger(__name__)

_SCRIPTS = Path(__file__).with_name("scripts")
PAUSE_S = 0.5
"""How long Redis is left alone after it did not answer, so that its timeout is not added to every request."""


class CountersUnavailableError(Exception):
    """Redis does not answer."""


class Counters:
    """Runs scripts. Says in the log when Redis goes and when it comes back, and nothing in between."""

    def __init__(self, *, redis: Redis, clock: Clock, prefix: str = "chatmesh:") -> None:
        self._redis = redis
        self._clock = clock
        self._prefix = prefix
        self._down_until: float | None = None

    def script(self, *names: str) -> AsyncScript:
        """The script made of these files of `scripts`, one after the other."""
        text = "".join((_SCRIPTS / f"{name}.lua").read_text(encoding="utf-8") for name in names)
        return self._redis.register_script(text)

    async def run(self, script: AsyncScript, keys: Sequence[str], arguments: Sequence[str | int]) -> Any:
        """Run a script; keys get the prefix of this mesh.

        Raises:
            CountersUnavailableError: when Redis does not answer, or did not a moment ago.
        """
        if self._down_until is not None and self._clock.monotonic() < self._down_until:
            raise CountersUnavailableError
        try:
            result = await script(keys=[self._prefix + key for key in keys], args=arguments)
        except (RedisError, OSError) as error:
            self._failed(error)
            raise CountersUnavailableError from error
        if self._down_until is not None:
            self._down_until = None
            _log.warning("redis answers again")
        return result

    async def check(self) -> None:
        """Ask whether Redis answers; raises when it does not."""
        await self._redis.ping()

    def _failed(self, error: Exception) -> None:
        if self._down_until is None:
            _log.warning("redis does not answer", extra={"error": type(error).__name__})
        self._down_until = self._clock.monotonic() + PAUSE_S
