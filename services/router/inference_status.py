"""Reports of the inference replicas, over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc

from chatmesh.inference.v1.inference_service_pb2_grpc import InferenceServiceStub
from services.router.convert import report_from, watch_request
from services.router.model import ReplicaReport
from services.runtime.client import ChannelPool, watch
from services.runtime.errors import from_rpc_error


class InferenceStatus:
    """Watches the status of inference replicas."""

    def __init__(self, *, channels: ChannelPool) -> None:
        self._channels = channels

    async def watch(self, address: str) -> AsyncIterator[ReplicaReport]:
        """The reports of the replica on this address, until the stream breaks.

        Raises:
            DomainError: when the stream breaks.
        """
        call = watch(InferenceServiceStub(self._channels.channel(address)).WatchStatus, watch_request())
        try:
            async for response in call:
                yield report_from(response.status)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service="inference") from error
        finally:
            call.cancel()
