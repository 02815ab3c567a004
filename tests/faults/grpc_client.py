"""A gRPC client that resumes, and what it does differently from one that speaks REST: it gets a status for a cut."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from chatmesh.conversation.v1.conversation_service_pb2 import SendMessageRequest
from chatmesh.conversation.v1.conversation_service_pb2_grpc import ConversationServiceStub
from chatmesh.conversation.v1.generation_event_pb2 import GenerationEvent
from chatmesh.conversation.v1.generation_service_pb2 import WatchGenerationRequest
from chatmesh.conversation.v1.generation_service_pb2_grpc import GenerationServiceStub

CUT = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL}
"""What a client is told of a server that was killed: that it cannot be reached, or that the stream was reset."""
_PATIENCE_S = 30.0


class GrpcAnswer:
    """One answer over as many calls as it takes."""

    def __init__(self, channel: grpc.Channel, *, token: str) -> None:
        self._conversations: Any = ConversationServiceStub(channel)
        self._generations: Any = GenerationServiceStub(channel)
        self._metadata = (("authorization", f"Bearer {token}"),)
        self.events: list[GenerationEvent] = []
        self.cuts: list[grpc.StatusCode] = []

    @property
    def text(self) -> str:
        """What the user sees."""
        return "".join(event.delta.text for event in self.events)

    @property
    def ended(self) -> bool:
        """Whether the terminal event came."""
        return bool(self.events) and self.events[-1].WhichOneof("event") in ("completed", "failed")

    def read(self, conversation_id: str, content: str, *, at: int, then: Callable[[str], None], resume: bool) -> None:
        """Ask and read; call `then` with the generation's id when there are `at` events."""
        request = SendMessageRequest(conversation_id=conversation_id, content=content, request_id=str(uuid.uuid4()))
        calls = self._calls(request)
        give_up = time.monotonic() + _PATIENCE_S
        for call in calls:
            try:
                for event in call:
                    self.events.append(event)
                    if len(self.events) == at:
                        then(event.generation_id)
            except grpc.RpcError as error:
                refused: Any = error
                assert refused.code() in CUT, refused
                self.cuts.append(refused.code())
            if self.ended or not resume:
                return
            assert time.monotonic() < give_up, self.cuts
            time.sleep(0.02)

    def _calls(self, request: SendMessageRequest) -> Iterator[Any]:
        while True:
            if self.events:
                last = self.events[-1]
                watch = WatchGenerationRequest(generation_id=last.generation_id, after_seq=last.seq)
                yield self._generations.WatchGeneration(watch, metadata=self._metadata, timeout=_PATIENCE_S)
            else:
                yield self._conversations.StreamMessage(request, metadata=self._metadata, timeout=_PATIENCE_S)
