"""Asks the guard model: where it runs from the Router, what it thinks from the replica."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace

import grpc

from chatmesh.router.v1.router_service_pb2_grpc import RouterServiceStub
from services.moderation.guard.convert import generation_start, route_request
from services.moderation.guard.inference import InferencePeers
from services.moderation.guard.model import Mode
from services.moderation.guard.template import Turn
from services.runtime.client import DEADLINE_MARGIN_S, call_unary
from services.runtime.clock import new_id
from services.runtime.errors import DomainError, Reason
from services.runtime.identity import Identity, current_scope, enter_scope
from services.runtime.telemetry import current_traceparent

CALLER = "moderation"
"""Who asks, by user id and tier: a guard is used by whoever checks, not by whoever is checked."""
MARGIN_S = 4 * DEADLINE_MARGIN_S
"""Taken off the caller's deadline, so that a check of which the guard was late is answered all the same."""
ROUTE_TIMEOUT_S = 2.0
ATTEMPTS = 2
"""Replicas that are tried for one question."""
_ELSEWHERE = frozenset((Reason.ENGINE_FAILED, Reason.OVERLOADED, Reason.DRAINING))
"""Errors of a replica that another one need not make."""


class GuardClient:
    """Asks a guard, as many questions at a time as there are."""

    def __init__(self, *, router: grpc.aio.Channel, inference: InferencePeers) -> None:
        self._router = RouterServiceStub(router)
        self._inference = inference

    async def ask(
        self, turns: Sequence[Turn], *, model: str, mode: Mode, max_tokens: int, residency: str, timeout_s: float
    ) -> str:
        """The model's reply.

        Args:
            turns: The messages.
            model: Its name in the models file.
            mode: Whether somebody waits.
            max_tokens: Of the reply.
            residency: Where the user's data must stay; empty for anywhere.
            timeout_s: Longest time to wait; less when the inbound call's deadline comes first.

        Raises:
            TimeoutError: There was none in time. The generation is cancelled.
            DomainError: Nothing serves the model, or what does has failed.
        """
        remaining = current_scope().remaining_s()
        if remaining is not None:
            timeout_s = min(timeout_s, remaining - MARGIN_S)
        scope = replace(
            current_scope(),
            identity=Identity(CALLER, CALLER, residency),
            deadline=time.monotonic() + timeout_s + DEADLINE_MARGIN_S,
        )

        async def call() -> str:
            enter_scope(scope)
            return await self._ask(turns, model=model, mode=mode, max_tokens=max_tokens)

        async with asyncio.timeout(timeout_s):
            try:
                # A task of its own, for its scope.
                return await asyncio.create_task(call(), name="ask-guard")
            except DomainError as error:
                if error.reason is Reason.DEADLINE_EXCEEDED:
                    raise TimeoutError from error
                raise

    async def _ask(self, turns: Sequence[Turn], *, model: str, mode: Mode, max_tokens: int) -> str:
        generation_id = stream_id = new_id()
        excluded = failed = ""
        for attempt in range(1, ATTEMPTS + 1):
            request = route_request(generation_id, model=model, mode=mode, excluded=excluded, failed=failed)
            route = await call_unary(self._router.Route, request, timeout_s=ROUTE_TIMEOUT_S, service="router")
            start = generation_start(
                stream_id,
                # An alias becomes the model that was chosen.
                model=route.model.name,
                mode=mode,
                turns=turns,
                max_tokens=max_tokens,
                traceparent=current_traceparent(),
            )
            try:
                return await self._inference.generate(route.lease.address, start)
            except DomainError as error:
                if attempt == ATTEMPTS or error.reason not in _ELSEWHERE:
                    raise
                excluded = route.lease.replica_id
                # The Router is not told that one has failed which is only busy.
                failed = excluded if error.reason is Reason.ENGINE_FAILED else ""
                # Another one, for the first may still be ending.
                stream_id = new_id()
        raise AssertionError("unreachable")
