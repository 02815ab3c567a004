"""A copy that takes too long is recorded as one."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from chatmesh.router.v1.router_service_pb2 import RouteResponse
from services.conversation import shadow
from services.conversation.chat_model import FinishReason, Sampling
from services.conversation.engine_model import Prompt
from services.conversation.experiment_store import ShadowRun
from services.conversation.moderation_model import InputVerdict, ModerationCheck, ModerationMode
from services.conversation.peers.router_convert import route_from_pb
from services.conversation.preparation import Prepared, Question
from services.conversation.route_model import Model, Priority, Route, RouteReceipt, ShadowRoute
from services.conversation.shadow import Shadows
from services.runtime.clock import SystemClock

MODEL = Model("large", 2048, 100, "")
VERDICT = InputVerdict(None, "", ModerationCheck(ModerationMode.CHECKED), None, "p1")
ROUTE = Route(
    "main:1",
    "r1",
    MODEL,
    RouteReceipt("auto", "small", "synthetic", "r1", "only"),
    shadows=(ShadowRoute("copy", "other:1", "r2", MODEL),),
)


class Silent:
    """Replicas that say nothing."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.cancelled: list[str] = []

    def start(self, address: str, *, stream_id: str, **_: Any) -> None:
        self.started.append(stream_id)

    def cancel(self, address: str, stream_id: str) -> None:
        self.cancelled.append(stream_id)


class Store:
    def __init__(self) -> None:
        self.run: asyncio.Future[ShadowRun] = asyncio.get_running_loop().create_future()

    async def record_shadow(self, run: ShadowRun) -> None:
        self.run.set_result(run)


async def test_a_copy_that_takes_too_long_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow, "TIMEOUT_S", 0.0)
    inference, store = Silent(), Store()
    shadows = Shadows(inference=cast(Any, inference), store=cast(Any, store), clock=SystemClock())
    sampling = Sampling()
    question = Question("g", "", "auto", "", "Hello", sampling)
    shadows.start(question, Prepared(ROUTE, Prompt((), 100, False), sampling, VERDICT))
    run = await store.run
    assert (run.name, run.replica_id, run.finish_reason, run.error) == (
        "copy",
        "r2",
        FinishReason.ERROR,
        "DEADLINE_EXCEEDED",
    )
    await shadows.drain()
    assert inference.cancelled == inference.started


def test_a_priority_that_is_not_known_is_the_usual() -> None:
    response = RouteResponse()
    response.priority = cast(Any, 99)
    assert route_from_pb(response).priority is Priority.UNSPECIFIED
