"""A client that resumes: it reads one answer over as many connections as that takes, and notes when each event came."""

from __future__ import annotations

import itertools
import json
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Self

import httpx

from tests.mesh_process import MeshProcess

Event = Mapping[str, Any]
AT_ONCE = 32
"""Answers that one client reads side by side."""
_RETRY = {429, 503, 504}
_RETRY_S = 0.02
_CALL = httpx.Timeout(15.0)


class RefusedError(AssertionError):
    """An answer that is neither an event stream nor something to try again."""


@dataclass(slots=True)
class Answer:
    """What a client has seen of one answer."""

    conversation_id: str = ""
    events: list[Event] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    """When each event came, by `time.monotonic`."""
    connections: int = 0
    grown: threading.Condition = field(default_factory=threading.Condition)

    @property
    def generation_id(self) -> str:
        """Which one it is."""
        found: str = self.events[0]["generation_id"]
        return found

    @property
    def text(self) -> str:
        """What the user sees."""
        text = ""
        for event in self.events:
            if "delta" in event:
                text += event["delta"]["text"]
            elif "retracted" in event:
                gone = event["retracted"]
                text = text[: gone["start"]] + gone["replacement"] + text[gone["end"] :]
        return text

    @property
    def ended(self) -> bool:
        """Whether its terminal event came."""
        return bool(self.events) and ("completed" in self.events[-1] or "failed" in self.events[-1])

    @property
    def message(self) -> Mapping[str, Any]:
        """The answer as stored."""
        last = self.events[-1]
        stored: Mapping[str, Any] = (last.get("completed") or last["failed"])["message"]
        return stored

    @property
    def notices(self) -> list[str]:
        """What it was told on the way, without the common prefix."""
        kinds = [event["notice"]["kind"] for event in self.events if "notice" in event]
        return [kind.removeprefix("NOTICE_KIND_").lower() for kind in kinds]

    @property
    def epochs(self) -> list[int]:
        """Of the servers that wrote it, in order."""
        return [epoch for epoch, _ in itertools.groupby(event["epoch"] for event in self.events)]

    @property
    def positions(self) -> list[int]:
        """Of its events."""
        return [event["seq"] for event in self.events]

    def add(self, event: Event) -> None:
        """One more event."""
        with self.grown:
            self.arrivals.append(time.monotonic())
            self.events.append(event)
            self.grown.notify_all()

    def reach(self, events: int, *, within_s: float = 30.0) -> Self:
        """Wait until so many events came."""
        with self.grown:
            assert self.grown.wait_for(lambda: len(self.events) >= events or self.ended, within_s), self
        return self


class Client:
    """One user of a mesh, by REST and server-sent events.

    Args:
        mesh: The mesh.
        silence_s: How long a stream may say nothing before it is taken for dead.
        give_up_s: How long to go on trying without an event.
    """

    def __init__(
        self,
        mesh: MeshProcess,
        *,
        user: str = "",
        tier: str = "enterprise",
        model: str = "steady",
        silence_s: float = 2.0,
        give_up_s: float = 40.0,
    ) -> None:
        self._model = model
        self._give_up_s = give_up_s
        self._silence = httpx.Timeout(5.0, read=silence_s)
        self._pool = ThreadPoolExecutor(AT_ONCE)
        self.token = mesh.token(user=user or f"user-{uuid.uuid4()}", tier=tier)
        self.http = httpx.Client(
            base_url=mesh.url,
            headers={"authorization": f"Bearer {self.token}"},
            timeout=_CALL,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=AT_ONCE),
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        self.http.close()

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """One call that has an answer, sent again as long as the mesh is not there."""
        give_up = time.monotonic() + self._give_up_s
        while True:
            try:
                answer = self.http.request(method, path, json=body)
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code == 200:
                return answer.json()
            if answer is not None and answer.status_code not in _RETRY:
                raise RefusedError(f"{method} {path}: {answer.status_code} {answer.text}")
            assert time.monotonic() < give_up, f"{method} {path}: {answer.text if answer else 'no answer'}"
            time.sleep(_RETRY_S)

    def conversation(self, model: str = "") -> str:
        """A new conversation. It has a title, so none is written."""
        made: str = self.call(
            "POST",
            "/v1/conversations",
            {"title": "faults", "model": model or self._model, "request_id": str(uuid.uuid4())},
        )["id"]
        return made

    def messages(self, conversation_id: str) -> list[Mapping[str, Any]]:
        """What is stored of a conversation, oldest first."""
        found: list[Mapping[str, Any]] = self.call("GET", f"/v1/conversations/{conversation_id}/messages").get(
            "messages", []
        )
        return found

    def stream(self, conversation_id: str, question: Mapping[str, Any]) -> AbstractContextManager[httpx.Response]:
        """Send a message."""
        path = f"/v1/conversations/{conversation_id}/messages:stream"
        return self.http.stream("POST", path, json=question, timeout=self._silence)

    def watch(self, generation_id: str, *, after_seq: int) -> AbstractContextManager[httpx.Response]:
        """Follow a generation from a position."""
        path = f"/v1/generations/{generation_id}:watch?after_seq={after_seq}"
        return self.http.stream("GET", path, timeout=self._silence)

    def start(
        self,
        content: str,
        *,
        conversation_id: str = "",
        resume: bool = True,
        delay_s: float = 0.0,
        sampling: Mapping[str, Any] | None = None,
    ) -> tuple[Answer, Future[Answer]]:
        """Ask, and read the answer in the background.

        Args:
            content: The question.
            conversation_id: Empty for a new one.
            resume: False for a client that reads one connection to its end.
            delay_s: How long to wait before.
            sampling: How to sample; None as the model does.
        """
        answer = Answer(conversation_id or self.conversation())
        return answer, self._pool.submit(
            self._read, answer, {"content": content, "sampling": sampling or {}}, resume, delay_s
        )

    def ask(self, content: str, **how: Any) -> Answer:
        """Ask as `start` does, and read the answer to its end."""
        return self.start(content, **how)[1].result()

    def read_again(self, generation_id: str) -> Answer:
        """All of an answer from its start, as a second device would see it."""
        answer = Answer()
        while not answer.ended:
            self._connect(answer, self.watch(generation_id, after_seq=answer.positions[-1] if answer.events else 0))
        return answer

    def _read(self, answer: Answer, question: Mapping[str, Any], resume: bool, delay_s: float) -> Answer:
        time.sleep(delay_s)
        request_id = str(uuid.uuid4())
        heard_at = time.monotonic()
        while not answer.ended:
            seen = len(answer.events)
            if seen:
                connection = self.watch(answer.generation_id, after_seq=answer.positions[-1])
            else:
                connection = self.stream(answer.conversation_id, {**question, "request_id": request_id})
            self._connect(answer, connection)
            if answer.ended or not resume:
                break
            now = time.monotonic()
            heard_at = now if len(answer.events) > seen else heard_at
            assert now - heard_at < self._give_up_s, f"nothing more of {answer.generation_id} for {self._give_up_s} s"
            time.sleep(_RETRY_S)
        return answer

    def _connect(self, answer: Answer, connection: AbstractContextManager[httpx.Response]) -> None:
        answer.connections += 1
        try:
            with connection as response:
                if response.status_code == 200:
                    for event in _events(response):
                        answer.add(event)
                elif response.status_code not in _RETRY:
                    raise RefusedError(f"{response.request.url}: {response.status_code} {response.read().decode()}")
        except httpx.TransportError:
            return


def _events(response: httpx.Response) -> Iterator[Event]:
    # Not by `iter_lines`, which also takes the line separators of Unicode for ends of lines.
    buffer = b""
    for data in response.iter_bytes():
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data: "):
                yield json.loads(line.removeprefix(b"data: "))
