"""An answer over a real connection that breaks: the whole of it is shown, once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, cast

import grpc
import pytest

from chatmesh.conversation.v1 import (
    conversation_pb2,
    conversation_service_pb2_grpc,
    generation_event_pb2,
    generation_service_pb2,
    generation_service_pb2_grpc,
)
from services.cli.follow import Follower
from services.cli.remote import Completed, Delta, Event, Failed, RemoteError, Started, Target, connected

TEXT = ["Four ", "score ", "and ", "seven ", "years ", "ago"]
_WAIT_S = 10.0


def _log() -> list[generation_event_pb2.GenerationEvent]:
    """A whole answer: started, one event per word, completed."""
    events = [generation_event_pb2.GenerationEvent(started=generation_event_pb2.GenerationStarted(message_id="m"))]
    events += [
        generation_event_pb2.GenerationEvent(delta=generation_event_pb2.GenerationDelta(text=text)) for text in TEXT
    ]
    message = conversation_pb2.Message(content="".join(TEXT), status=conversation_pb2.MESSAGE_STATUS_COMPLETED)
    events.append(
        generation_event_pb2.GenerationEvent(completed=generation_event_pb2.GenerationCompleted(message=message))
    )
    for number, event in enumerate(events):
        event.generation_id, event.seq = "g1", number + 1
    return events


@dataclass
class _Service(
    conversation_service_pb2_grpc.ConversationServiceServicer, generation_service_pb2_grpc.GenerationServiceServicer
):
    """A Conversation of one answer, whose streams end as `cuts` say: after so many events, and how."""

    cuts: list[tuple[int, grpc.StatusCode | None]] = field(default_factory=list)
    log: list[generation_event_pb2.GenerationEvent] = field(default_factory=_log)
    request_ids: list[str] = field(default_factory=list)
    watched: list[int] = field(default_factory=list)
    stops: list[str] = field(default_factory=list)
    typed: bool = False
    """Whether what a stream is aborted with has details, as every error of a real service has."""
    held: threading.Event | None = None
    """Where it is set, a stream that was not cut waits for it before its last event."""

    def StreamMessage(self, request: Any, context: Any) -> Iterator[generation_event_pb2.GenerationEvent]:
        self.request_ids.append(request.request_id)
        yield from self._stream(0, context)

    def WatchGeneration(self, request: Any, context: Any) -> Iterator[generation_event_pb2.GenerationEvent]:
        assert request.generation_id == "g1"
        self.watched.append(request.after_seq)
        yield from self._stream(request.after_seq, context)

    def StopGeneration(self, request: Any, context: Any) -> generation_service_pb2.Generation:
        self.stops.append(request.generation_id)
        if len(self.stops) == 1:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        self.log[-1].completed.message.status = conversation_pb2.MESSAGE_STATUS_STOPPED
        if self.held is not None:
            self.held.set()
        return generation_service_pb2.Generation(id=request.generation_id)

    def _stream(self, after_seq: int, context: Any) -> Iterator[generation_event_pb2.GenerationEvent]:
        count, code = self.cuts.pop(0) if self.cuts else (len(self.log), None)
        for event in self.log[after_seq : after_seq + count]:
            if self.held is not None and event.seq == len(self.log):
                self.held.wait(_WAIT_S)
            yield event
        if self.typed:
            context.set_trailing_metadata((("grpc-status-details-bin", b"details"),))
        if code is not None:
            context.abort(code, "cut")


class _Server:
    """The service on a port that stays the same when it is started again."""

    def __init__(self, service: _Service) -> None:
        self._service = service
        self.port = 0
        self.start()

    def start(self) -> None:
        self._server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        conversation_service_pb2_grpc.add_ConversationServiceServicer_to_server(self._service, self._server)
        generation_service_pb2_grpc.add_GenerationServiceServicer_to_server(self._service, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def stop(self) -> None:
        self._server.stop(0).wait()


def _shown(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


@pytest.fixture
def service() -> _Service:
    # The methods that it leaves out are those of the generated base, which mypy takes for abstract.
    made: Any = _Service
    return cast(_Service, made())


@pytest.fixture
def server(service: _Service) -> Iterator[_Server]:
    running = _Server(service)
    yield running
    running.stop()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def follower(server: _Server, said: list[str]) -> Iterator[Follower]:
    with connected(Target(f"http://127.0.0.1:{server.port}", "token")) as remote:
        yield Follower(remote=remote, say=said.append)


_BREAKS = [None, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.CANCELLED]


@pytest.mark.parametrize("code", _BREAKS)
@pytest.mark.parametrize("place", range(len(TEXT) + 2))
def test_wherever_it_is_cut_the_answer_is_whole(
    place: int, code: grpc.StatusCode | None, follower: Follower, service: _Service, said: list[str]
) -> None:
    service.cuts = [(place, code)]

    events = list(follower.send("c", text="hi", model=""))

    assert _shown(events) == "".join(TEXT)
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Completed)
    assert len(events) == len(service.log)
    # Before the first event the message itself is sent again; from then on only the answer is watched.
    assert len(service.request_ids) == (1 if place else 2)
    assert len(set(service.request_ids)) == 1
    assert service.watched == ([place] if place else [])
    assert said == []


def test_it_may_be_cut_after_every_event(follower: Follower, service: _Service) -> None:
    service.cuts = [(1, grpc.StatusCode.UNAVAILABLE)] * (len(service.log) - 1)

    assert _shown(list(follower.send("c", text="hi", model=""))) == "".join(TEXT)

    assert service.watched == list(range(1, len(service.log)))


def test_a_server_that_is_away_for_a_moment(follower: Follower, server: _Server, service: _Service) -> None:
    service.held = threading.Event()
    events = follower.send("c", text="hi", model="")
    seen = [next(events) for _ in range(3)]

    server.stop()
    service.held.set()
    back = threading.Timer(0.5, server.start)
    back.start()
    seen += list(events)
    back.join()

    assert _shown(seen) == "".join(TEXT)
    assert isinstance(seen[-1], Completed)
    assert len(service.request_ids) == 1


def test_a_stop_is_sent_until_it_arrives_and_the_rest_is_shown(follower: Follower, service: _Service) -> None:
    service.held = threading.Event()
    events = follower.send("c", text="hi", model="")
    assert not follower.has_begun
    seen = [next(events) for _ in range(3)]
    assert follower.has_begun
    events.close()

    rest = list(follower.stop())

    # The first attempt fell on a server that was just going away.
    assert service.stops == ["g1", "g1"]
    assert service.watched == [3]
    assert _shown(seen + rest) == "".join(TEXT)
    last = rest[-1]
    assert isinstance(last, Completed)
    assert last.stopped


@pytest.mark.parametrize("place", [0, 2])
def test_what_is_refused_is_not_asked_again(place: int, follower: Follower, service: _Service) -> None:
    service.cuts = [(place, grpc.StatusCode.UNAVAILABLE), (0, grpc.StatusCode.NOT_FOUND)]

    with pytest.raises(RemoteError, match="cut"):
        list(follower.send("c", text="hi", model=""))

    assert len(service.request_ids) + len(service.watched) == 2


def test_a_typed_error_is_not_taken_for_a_broken_connection(follower: Follower, service: _Service) -> None:
    service.typed = True
    service.cuts = [(2, grpc.StatusCode.INTERNAL)]

    with pytest.raises(RemoteError, match="cut"):
        list(follower.send("c", text="hi", model=""))

    assert (len(service.request_ids), service.watched) == (1, [])


def test_nobody_waits_forever(service: _Service, said: list[str]) -> None:
    clock = [0.0]

    def pause(seconds: float) -> None:
        clock[0] += seconds
        time.sleep(0.001)

    server = _Server(service)
    server.stop()
    with connected(Target(f"http://127.0.0.1:{server.port}", "token")) as remote:
        follower = Follower(remote=remote, say=said.append, pause=pause, now=lambda: clock[0])
        with pytest.raises(RemoteError):
            list(follower.send("c", text="hi", model=""))
    assert len(said) == 1
    assert 30 <= clock[0] < 33


def test_a_failed_answer_is_an_end(follower: Follower, service: _Service) -> None:
    error = conversation_pb2.ErrorSummary(message="blocked")
    service.log[-1].failed.CopyFrom(generation_event_pb2.GenerationFailed(error=error))

    events = list(follower.send("c", text="hi", model=""))

    assert events[-1] == Failed("blocked")
    assert service.watched == []
