"""The last question before the mesh calls itself ready: does a chat succeed, through the edge, with a token?"""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

from services.cli.errors import CliError
from services.cli.ports import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_REQUEST_TIMEOUT_S = 60.0
_RETRY_S = 0.1


async def await_first_chat(*, port: int, token: str, timeout_s: float) -> None:
    """Ask until the models are listed and a one-token chat is answered.

    Raises:
        CliError: that did not happen in time; the text holds the last answer.
    """
    body = json.dumps({"model": "auto", "max_tokens": 1, "messages": [{"role": "user", "content": "Hello"}]})
    deadline = time.monotonic() + timeout_s
    await _until_answered(lambda: _request(port, "GET", "/v1/models", token=token), deadline=deadline)
    await _until_answered(
        lambda: _request(port, "POST", "/v1/chat/completions", token=token, body=body), deadline=deadline
    )


async def _until_answered(ask: Callable[[], Awaitable[tuple[int, str]]], *, deadline: float) -> None:
    while True:
        try:
            status, text = await ask()
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            status, text = 0, f"{type(error).__name__}: {error}"
        if status == 200:
            return
        if time.monotonic() > deadline:
            answer = f"HTTP {status}: {text}" if status else text
            raise CliError(f"every process is healthy, but a chat through the edge fails: {answer[:500]}")
        await asyncio.sleep(_RETRY_S)


async def _request(port: int, method: str, path: str, *, token: str, body: str = "") -> tuple[int, str]:
    """One HTTP exchange on a connection of its own. Returns the status and the body as it came."""
    payload = body.encode()
    head = (
        f"{method} {path} HTTP/1.1\r\nhost: {LOOPBACK}:{port}\r\nauthorization: Bearer {token}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(payload)}\r\nconnection: close\r\n\r\n"
    )
    async with asyncio.timeout(_REQUEST_TIMEOUT_S):
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        try:
            writer.write(head.encode() + payload)
            answer = (await reader.read()).decode(errors="replace")
        finally:
            writer.close()
    headers, _, text = answer.partition("\r\n\r\n")
    words = headers.split(" ", 2)
    if len(words) < 3 or not words[1].isdigit():
        raise ValueError("the edge did not speak HTTP")
    return int(words[1]), " ".join(text.split())
