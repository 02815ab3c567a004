"""The way to the server: requests, their time limits, and what becomes of a connection that fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from services.inference.engines.engine import engine_failed
from services.inference.engines.openai.options import OpenAIOptions
from services.inference.engines.openai.refusals import Refusal
from services.runtime.errors import DomainError

_SPARE_CONNECTIONS = 8
"""Beside one per slot, for token counts and checks."""
_MOST_AT_ONCE = 6
"""Of those, so that many texts leave some to others."""
_KEPT_FOR_S = 2.0
"""Servers close idle connections after five seconds or more, and one that is just being closed fails a request."""
_MAX_REFUSAL_BYTES = 64 * 2**10


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply; `content` is its JSON."""

    status: int
    headers: dict[str, str]
    content: Any
    keyed: bool

    @property
    def ok(self) -> bool:
        """Whether the request was done."""
        return self.status == 200

    @property
    def refusal(self) -> Refusal:
        """The reply as a refusal."""
        return Refusal(self.status, self.headers, self.content, self.keyed)


class RefusedError(Exception):
    """The server took a request and did not do it."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.status)
        self.refusal = refusal


class OpenAIClient:
    """One pool of connections to one server. Every method raises ENGINE_FAILED when the server cannot be spoken to."""

    def __init__(self, options: OpenAIOptions, *, entry: str, key: str, slots: int) -> None:
        self._entry = entry
        self._options = options
        self._root = options.root_url
        self._keyed = bool(key)
        self._places = asyncio.Semaphore(_MOST_AT_ONCE)
        connections = slots + _SPARE_CONNECTIONS
        self._http = httpx.AsyncClient(
            headers={**options.headers, **({"authorization": f"Bearer {key}"} if key else {})},
            timeout=httpx.Timeout(options.request_timeout_s, connect=options.connect_timeout_s),
            limits=httpx.Limits(
                max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=_KEPT_FOR_S
            ),
            follow_redirects=False,
        )

    async def get(self, path: str) -> Reply:
        """GET below the base URL, and its JSON."""
        return await self._call("GET", self._options.base_url + path, None)

    async def post(self, path: str, body: object) -> Reply:
        """POST below the base URL, and its JSON."""
        return await self._call("POST", self._options.base_url + path, body)

    async def post_root(self, path: str, body: object) -> Reply:
        """POST beside the API, and its JSON."""
        return await self._call("POST", self._root + path, body)

    @asynccontextmanager
    async def stream(self, path: str, body: object, *, traceparent: str) -> AsyncGenerator[AsyncGenerator[bytes, None]]:
        """POST, and the bytes of its events as they arrive. Leaving closes the connection: the server stops its work.

        The server's silence is not watched here.

        Raises:
            RefusedError: the reply is no success.
        """
        headers = {"accept": "text/event-stream", "accept-encoding": "identity"}
        if traceparent:
            headers["traceparent"] = traceparent
        timeout = httpx.Timeout(None, connect=self._options.connect_timeout_s)
        try:
            async with self._http.stream(
                "POST", self._options.base_url + path, json=body, headers=headers, timeout=timeout
            ) as response:
                if response.status_code != 200:
                    raise RefusedError(await _refusal(response, keyed=self._keyed))
                if not response.headers.get("content-type", "").startswith("text/event-stream"):
                    raise self._failed("The model's server does not stream its answers.")
                yield response.aiter_raw()  # type: ignore[misc]
        except httpx.HTTPError as error:
            raise self._lost(error) from error

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def _call(self, method: str, url: str, body: object) -> Reply:
        try:
            async with self._places:
                response = await self._http.request(method, url, json=body)
        except httpx.HTTPError as error:
            raise self._lost(error) from error
        try:
            content = response.json()
        except ValueError as error:
            if response.status_code == 200:
                raise self._failed("The model's server sent what is not JSON.") from error
            content = None
        return Reply(response.status_code, dict(response.headers), content, self._keyed)

    def _lost(self, error: httpx.HTTPError) -> DomainError:
        # The error's own text may hold the address.
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return self._failed("The model's server cannot be reached.")
        if isinstance(error, httpx.TimeoutException):
            return self._failed("The model's server did not answer in time.")
        return self._failed("The connection to the model's server was lost.")

    def _failed(self, message: str) -> DomainError:
        return engine_failed(self._entry, message)


async def _refusal(response: httpx.Response, *, keyed: bool) -> Refusal:
    content = b""
    async for part in response.aiter_bytes():
        content += part
        if len(content) > _MAX_REFUSAL_BYTES:
            break
    try:
        body = json.loads(content)
    except ValueError:
        body = None
    return Refusal(response.status_code, dict(response.headers), body, keyed)
