"""The replicas that serve the guard: one stream to each carries all questions of this process."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import grpc

from chatmesh.inference.v1.inference_service_pb2_grpc import InferenceServiceStub
from services.moderation.guard.convert import Start, failure, generate_requests
from services.runtime.client import ChannelPool, open_stream
from services.runtime.errors import DomainError, Reason
from services.runtime.mux import Outbox

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Running:
    """A generation, and what came of it so far."""

    reply: asyncio.Future[str]
    pieces: list[str] = field(default_factory=list)


class InferencePeers:
    """Generations on any replica, by its address."""

    def __init__(self, channels: ChannelPool) -> None:
        self._channels = channels
        self._streams: dict[str, _ReplicaStream] = {}

    async def generate(self, address: str, start: Start) -> str:
        """Run a generation to its end, and give its text. Cancelled there when it is cancelled here.

        Raises:
            DomainError: It failed, or its replica is lost.
        """
        stream = self._streams.get(address)
        if stream is None:
            stream = self._streams[address] = _ReplicaStream(
                self._channels.channel(address), on_end=lambda: self._forget(address)
            )
        running = stream.running[start.generation_id] = _Running(asyncio.get_running_loop().create_future())
        stream.outbox.put(start)
        try:
            return await running.reply
        finally:
            if stream.running.pop(start.generation_id, None) is not None:
                stream.outbox.put(start.generation_id)

    async def close(self) -> None:
        """End all streams."""
        tasks = [stream.task for stream in self._streams.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _forget(self, address: str) -> None:
        """Replicas come and go; a channel to one that is gone would try to connect for ever."""
        del self._streams[address]
        self._channels.discard(address)


class _ReplicaStream:
    """The stream to one replica; ends with its first error, and a new one is made when next needed."""

    def __init__(self, channel: grpc.aio.Channel, *, on_end: Callable[[], None]) -> None:
        self._stub = InferenceServiceStub(channel)
        self._on_end = on_end
        self.running: dict[str, _Running] = {}
        self.outbox: Outbox[Start | str] = Outbox()
        # In a context of its own: the stream outlives the call that opens it, and must not carry its identity.
        self.task = asyncio.create_task(self._run(), name="guard-stream", context=contextvars.Context())

    async def _run(self) -> None:
        call = open_stream(self._stub.Generate, timeout_s=None, service="inference")
        writer = asyncio.create_task(self._write(call), name="guard-writer")
        lost = "ended"
        try:
            async for response in call:
                for delta in response.deltas:
                    running = self.running.get(delta.generation_id)
                    if running is None:
                        continue
                    running.pieces.append(delta.text)
                    if delta.HasField("end"):
                        del self.running[delta.generation_id]
                        self._end(running, failure(delta.end))
        except grpc.aio.AioRpcError as error:
            lost = error.code().name
        finally:
            self._on_end()
            writer.cancel()
            call.cancel()
            self._lose_all(lost)

    async def _write(self, call: grpc.aio.StreamStreamCall) -> None:  # type: ignore[type-arg]
        try:
            while True:
                for request in generate_requests(await self.outbox.drain()):
                    await call.write(request)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            # The reader hears of it too, and says why.
            _log.debug("guard stream is gone")

    def _end(self, running: _Running, error: DomainError | None) -> None:
        if running.reply.done():
            return
        if error is None:
            running.reply.set_result("".join(running.pieces))
        else:
            running.reply.set_exception(error)

    def _lose_all(self, why: str) -> None:
        if not self.running:
            return
        _log.warning("guard stream lost", extra={"code": why, "questions": len(self.running)})
        lost, self.running = self.running, {}
        for running in lost.values():
            self._end(running, DomainError(Reason.ENGINE_FAILED, "The guard's replica is lost."))
