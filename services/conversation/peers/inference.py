"""The Inference replicas: one stream to each carries all of this process's generations there."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import grpc

from chatmesh.inference.v1.inference_service_pb2_grpc import InferenceServiceStub
from services.conversation.chat_model import ChatMessage, FinishReason, GeneratedPiece, Sampling
from services.conversation.engine_model import EngineEnd, GenerationOptions, TokenDetails
from services.conversation.peers.inference_convert import (
    Start,
    details_from_pb,
    end_from_pb,
    generate_requests,
    generation_start,
)
from services.runtime.client import ChannelPool, open_stream
from services.runtime.errors import DomainError, Reason
from services.runtime.mux import Outbox
from services.runtime.telemetry import current_traceparent

_log = logging.getLogger(__name__)

_NO_OPTIONS = GenerationOptions()


class GenerationSink(Protocol):
    """Who a generation's deltas are for. The methods return at once."""

    def on_details(self, details: TokenDetails) -> None:
        """More of what was asked for beside the text. Comes before the delta with the same tokens, if there is one."""

    def on_delta(self, text: str, token_ids: Sequence[int], tokens: int) -> None:
        """More text, how many tokens it took, and their ids where the engine gives them."""

    def on_end(self, end: EngineEnd) -> None:
        """The generation has ended; no more calls."""


class InferencePeers:
    """Generations on any replica, by its address."""

    def __init__(self, channels: ChannelPool) -> None:
        self._channels = channels
        self._streams: dict[str, _ReplicaStream] = {}

    def start(
        self,
        address: str,
        *,
        stream_id: str,
        model: str,
        messages: Sequence[ChatMessage],
        sampling: Sampling,
        continuation: Sequence[GeneratedPiece],
        sink: GenerationSink,
        options: GenerationOptions = _NO_OPTIONS,
    ) -> None:
        """Start a generation, or go on with one; `sink` hears of everything, also when the replica is lost.

        Args:
            address: gRPC target of the replica.
            stream_id: Names it on the stream. Another one for each start, for an earlier one of the same generation
                may still be ending there.
            model: By its name in the registry.
            messages: The prompt.
            sampling: How to sample.
            continuation: What was generated before.
            sink: Who hears.
            options: What else is asked.
        """
        stream = self._streams.get(address)
        if stream is None:
            stream = self._streams[address] = _ReplicaStream(
                self._channels.channel(address), on_end=lambda: self._forget(address)
            )
        start = generation_start(
            generation_id=stream_id,
            model=model,
            messages=messages,
            sampling=sampling,
            options=options,
            continuation=continuation,
            traceparent=current_traceparent(),
        )
        stream.sinks[stream_id] = sink
        stream.outbox.put(start)

    def cancel(self, address: str, stream_id: str) -> None:
        """Cancel a generation; its end still comes to the sink."""
        stream = self._streams.get(address)
        if stream is not None and stream_id in stream.sinks:
            stream.outbox.put(stream_id)

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
        self.sinks: dict[str, GenerationSink] = {}
        self.outbox: Outbox[Start | str] = Outbox()
        # In a context of its own: the stream outlives the call that opens it, and must not carry its identity.
        self.task = asyncio.create_task(self._run(), name="inference-stream", context=contextvars.Context())

    async def _run(self) -> None:
        call = open_stream(self._stub.Generate, timeout_s=None, service="inference")
        writer = asyncio.create_task(self._write(call), name="inference-writer")
        lost = "ended"
        try:
            async for response in call:
                for delta in response.deltas:
                    sink = self.sinks.get(delta.generation_id)
                    if sink is None:
                        continue
                    details = details_from_pb(delta)
                    if details is not None:
                        sink.on_details(details)
                    if delta.text or delta.token_count:
                        sink.on_delta(delta.text, delta.token_ids, delta.token_count)
                    if delta.HasField("end"):
                        del self.sinks[delta.generation_id]
                        sink.on_end(end_from_pb(delta.end))
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
            _log.debug("inference stream is gone")

    def _lose_all(self, why: str) -> None:
        if not self.sinks:
            return
        _log.warning("inference stream lost", extra={"code": why, "generations": len(self.sinks)})
        sinks, self.sinks = self.sinks, {}
        for sink in sinks.values():
            error = DomainError(Reason.ENGINE_FAILED, "The engine stopped before the answer was complete; ask again.")
            sink.on_end(EngineEnd(FinishReason.ERROR, error=error))
