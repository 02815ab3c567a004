"""The other servers of this service, each by its own address."""

from __future__ import annotations

from collections import Counter

from chatmesh.conversation.v1.generation_service_pb2_grpc import GenerationServiceStub
from services.conversation.peers.convert import stop_request
from services.runtime.client import ChannelPool, call_unary
from services.runtime.errors import DomainError, Reason

TIMEOUT_S = 3.0


class ConversationPeers:
    """Reaches the server that runs a generation."""

    def __init__(self, channels: ChannelPool) -> None:
        self._channels = channels
        self._calls: Counter[str] = Counter()
        """Calls under way, by address."""

    async def stop(self, address: str, generation_id: str) -> None:
        """Tell a server to stop a generation that it runs.

        Raises:
            DomainError: It is not there, or not any more.
        """
        stub = GenerationServiceStub(self._channels.channel(address))
        self._calls[address] += 1
        gone = False
        try:
            await call_unary(
                stub.StopGeneration, stop_request(generation_id), timeout_s=TIMEOUT_S, service="conversation"
            )
        except DomainError as error:
            gone = error.reason is Reason.DEPENDENCY_UNAVAILABLE
            raise
        finally:
            self._calls[address] -= 1
            if not self._calls[address]:
                del self._calls[address]
                if gone:
                    # Servers come and go; a channel to one that is gone would try to connect for ever.
                    self._channels.discard(address)
