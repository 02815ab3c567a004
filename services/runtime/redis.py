"""The connection to Redis or Valkey."""

from __future__ import annotations

import asyncio

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError


def connect_redis(url: str, *, timeout_s: float = 1.0) -> Redis:
    """A client for `redis://`, `rediss://` or `unix://` URLs; it connects when first used.

    One retry on a broken connection, for the server may have been restarted since; the timeouts are short, for no user
    should wait on a counter.
    """
    return Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(ExponentialBackoff(cap=0.1, base=0.01), retries=1),
        retry_on_error=[RedisConnectionError],
        health_check_interval=15,
    )


def raise_if_cancelled() -> None:
    """End the task when it was told to end and did not notice. For loops that talk to Redis.

    Its client waits with `asyncio.wait_for`, which before Python 3.12 loses a cancellation that comes in the moment in
    which what it waits for is done.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
