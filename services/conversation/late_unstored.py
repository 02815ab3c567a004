"""Late verdicts on answers that nobody stores: only the server that runs one knows it, and only while it does.

Whoever reads such a verdict from the stream tells all servers. One that is missed is too late anyway.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.conversation.completion import CompletionRunner
from services.conversation.late_convert import late_verdict_from_bytes
from services.conversation.late_model import retraction

_log = logging.getLogger(__name__)

CHANNEL = "chatmesh:moderation:late:unstored"
WAIT_S = 0.5
"""How long one look for news takes; shorter than the patience of the connection."""
RETRY_S = 0.5


class LateUnstored:
    """Tells and hears of these verdicts. Run `run` as a task."""

    def __init__(self, *, redis: Redis, completions: CompletionRunner) -> None:
        self._redis: Any = redis
        self._completions = completions

    async def tell(self, data: bytes) -> None:
        """Tell all servers of a verdict, as it came."""
        await self._redis.publish(CHANNEL, data)

    async def run(self) -> None:
        """Hear for ever."""
        while True:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=True) as pubsub:
                    await pubsub.subscribe(CHANNEL)
                    while True:
                        message = await pubsub.get_message(timeout=WAIT_S)
                        if message is not None:
                            self._hear(message["data"])
            except (RedisError, OSError):
                # Who reads the stream says so in the log.
                await asyncio.sleep(RETRY_S)

    def _hear(self, data: bytes) -> None:
        try:
            verdict = late_verdict_from_bytes(data)
        except ValueError:
            _log.warning("a late verdict cannot be read")
            return
        if verdict.retract:
            self._completions.take_back(verdict.generation_id, retraction(verdict))
