"""A fleet of real Inference processes behind a real Router, and callers that do with them what Conversation does."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from chatmesh.inference.v1 import generation_pb2, inference_service_pb2
from chatmesh.inference.v1.inference_service_pb2_grpc import InferenceServiceStub
from chatmesh.router.v1 import router_service_pb2
from chatmesh.router.v1.router_service_pb2_grpc import RouterServiceStub
from chatmesh.type.v1 import chat_pb2, route_pb2
from tests.rpc.inference.process import InferenceProcess, synthetic

MODEL = "live"
ANSWER_TOKENS = 20
ATTEMPTS = 5
CALLERS = 8


class LiveReplica:
    """One Inference process. `slowness` multiplies all its times."""

    def __init__(self, folder: Path, number: int, *, slowness: float = 1.0, slots: int = 4, **options: Any) -> None:
        self.name = f"r{number}"
        self.slowness = slowness
        self.slow_file = folder / self.name / "slowness"
        self.slow_file.parent.mkdir()
        options = {"tokens_per_second": 100 / slowness, "time_to_first_token_ms": 50 * slowness, **options}
        model = synthetic(MODEL, slots=slots, answer_tokens=ANSWER_TOKENS, slow_file=str(self.slow_file), **options)
        self.process = InferenceProcess(self.slow_file.parent, [model], CHATMESH_REPLICA_ID=self.name)

    @property
    def address(self) -> str:
        return self.process.address()


@dataclass
class Asked:
    """One answer: the receipts of all attempts, the last of which succeeded, and what the engine counted."""

    receipts: list[route_pb2.RouteReceipt] = field(default_factory=list)
    tokens: int = 0
    cached_tokens: int = 0

    @property
    def replica(self) -> str:
        return self.receipts[-1].replica_id

    @property
    def rule(self) -> str:
        return self.receipts[-1].rule.rpartition("/")[2]


class Callers:
    """Ask the Router and then the replica that it names, and another one when that fails."""

    def __init__(self, router: str) -> None:
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._router = RouterServiceStub(self._channel(router))
        self._ids = itertools.count()

    async def ask(self, *texts: str, conversation: str = "", keys: Sequence[str] = ()) -> Asked:
        """One answer; AssertionError when no replica gives it."""
        asked = Asked()
        generation = f"g{next(self._ids)}"
        failed: list[str] = []
        for _ in range(ATTEMPTS):
            request = router_service_pb2.RouteRequest(
                generation_id=generation,
                model=MODEL,
                conversation_id=conversation,
                affinity_keys=keys or ([conversation] if conversation else []),
                excluded_replica_ids=failed,
                failed_replica_id=failed[-1] if failed else "",
            )
            user = (("x-chatmesh-user", "u1"), ("x-chatmesh-tier", "free"))
            response = await self._router.Route(request, timeout=10, metadata=user)
            asked.receipts.append(response.receipt)
            if await self._generate(response.lease.address, generation, texts or ("Hello",), asked):
                return asked
            failed.append(response.lease.replica_id)
        raise AssertionError(f"no answer from any of {failed}")

    async def many(self, number: int, *, callers: int = CALLERS) -> list[Asked]:
        """So many answers, by callers each of which asks for one after another."""
        left = itertools.count()
        answers: list[Asked] = []

        async def one() -> None:
            while next(left) < number:
                answers.append(await self.ask())

        await asyncio.gather(*(one() for _ in range(callers)))
        return answers

    async def ready(self) -> int:
        """Replicas that the Router would send to."""
        models = await self._router.ListModels(router_service_pb2.ListModelsRequest(), timeout=10)
        return int(models.models[0].ready_replicas)

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()

    async def _generate(self, address: str, generation: str, texts: Sequence[str], asked: Asked) -> bool:
        call: Any = InferenceServiceStub(self._channel(address)).Generate()
        start = generation_pb2.GenerationStart(
            generation_id=generation,
            model=MODEL,
            messages=[chat_pb2.ChatMessage(role=chat_pb2.ROLE_USER, content=text) for text in texts],
        )
        asked.tokens = 0
        try:
            await call.write(inference_service_pb2.GenerateRequest(starts=[start]))
            async for message in call:
                for delta in message.deltas:
                    asked.tokens += delta.token_count
                    if delta.HasField("end"):
                        asked.cached_tokens = delta.end.usage.cached_tokens
                        return bool(delta.end.finish_reason != chat_pb2.FINISH_REASON_ERROR)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            # Cut off, or refused before it could be written.
            return False
        finally:
            call.cancel()
        return False

    def _channel(self, address: str) -> grpc.aio.Channel:
        if address not in self._channels:
            self._channels[address] = grpc.aio.insecure_channel(address)
        return self._channels[address]


def sent(answers: Sequence[Asked]) -> Counter[str]:
    """How many attempts went to each replica, by the receipts."""
    return Counter(receipt.replica_id for asked in answers for receipt in asked.receipts)


def retried(answers: Sequence[Asked]) -> int:
    """Answers that took more than one attempt."""
    return sum(len(asked.receipts) > 1 for asked in answers)
