"""Reads an answer of either surface and checks it: every token, in order, none twice, and one proper end."""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from bench.workloads import Surface
from services.inference.engines.synthetic_text import cut

_FINISHED = {"length", "FINISH_REASON_LENGTH"}
"""Every answer is ended by its limit of tokens."""


class WrongAnswerError(Exception):
    """What came is not what the engine wrote; the text says how."""


@dataclass(frozen=True, slots=True)
class Expected:
    """The answer that must come, and the offsets in it at which its tokens end."""

    text: str
    ends: tuple[int, ...]

    @classmethod
    def of(cls, text: str, *, tokens: int) -> Expected:
        """Of the synthetic engine's text.

        Raises:
            WrongAnswerError: the text does not have so many tokens.
        """
        ends = tuple(accumulate(map(len, cut(text).texts)))
        # A token that ends inside of a character has no text, so the last ones may be missing from what was written.
        if not tokens - 8 <= len(ends) <= tokens:
            raise WrongAnswerError(f"{len(ends)} tokens instead of {tokens}")
        return cls(text, ends + (len(text),) * (tokens - len(ends)))


class Answer:
    """One answer as it comes. `arrivals` is when each token was complete, in seconds of `time.perf_counter`."""

    __slots__ = ("_finished", "_length", "_position", "_rest", "_surface", "arrivals", "expected", "sent_at")

    def __init__(self, expected: Expected, *, surface: Surface, sent_at: float) -> None:
        self.expected = expected
        self.sent_at = sent_at
        self.arrivals: list[float] = []
        self._surface = surface
        self._rest = b""
        self._position = 0
        self._length = 0
        self._finished = ""

    def on_events(self, data: bytes, now: float) -> None:
        """Take a piece of a stream of server-sent events."""
        *events, self._rest = (self._rest + data).split(b"\n\n")
        length = self._length
        for event in events:
            if event == b"data: [DONE]":
                self._finished += " [DONE]"
            elif self._surface is Surface.OPENAI:
                self._on_chunk(json.loads(event[6:].decode()))
            else:
                self._on_event(json.loads(event[6:].decode()))
        if self._length > length:
            self._arrived(now)

    def on_whole(self, body: bytes, now: float) -> None:
        """Take an answer that came in one piece."""
        value = json.loads(body)
        if self._surface is Surface.OPENAI:
            choice = value["choices"][0]
            self._add(choice["message"]["content"])
            self._finished = choice["finish_reason"] + " [DONE]"
        else:
            self._add(value["content"])
            self._finished = value["finish_reason"]
        self._arrived(now)

    def finish(self) -> None:
        """See that it is complete.

        Raises:
            WrongAnswerError: it is not.
        """
        reason, _, done = self._finished.partition(" ")
        if reason not in _FINISHED:
            raise WrongAnswerError(f"it ended by {reason or 'nothing'}")
        if (done == "[DONE]") != (self._surface is Surface.OPENAI):
            raise WrongAnswerError("its last event is not the last event of its surface")
        if self._length != len(self.expected.text) or len(self.arrivals) != len(self.expected.ends):
            raise WrongAnswerError(f"{len(self.arrivals)} tokens came instead of {len(self.expected.ends)}")

    def _on_chunk(self, chunk: dict[str, Any]) -> None:
        if "error" in chunk:
            raise WrongAnswerError(f"error in the stream: {chunk['error'].get('code')}")
        for choice in chunk["choices"]:
            self._add(choice["delta"].get("content") or "")
            if choice["finish_reason"]:
                self._finished = choice["finish_reason"]

    def _on_event(self, event: dict[str, Any]) -> None:
        seq = int(event["seq"])
        if seq <= self._position:
            raise WrongAnswerError(f"event {seq} came after event {self._position}")
        self._position = seq
        if "delta" in event:
            self._add(event["delta"]["text"])
        elif "completed" in event:
            self._finished = event["completed"]["message"]["finish_reason"]
        elif "started" not in event:
            raise WrongAnswerError(f"an event with {', '.join(sorted(event))}")

    def _add(self, text: str) -> None:
        if not self.expected.text.startswith(text, self._length):
            raise WrongAnswerError(f"the text differs behind offset {self._length}")
        self._length += len(text)

    def _arrived(self, now: float) -> None:
        # The last tokens may have no text of their own: they are there when all of the text is.
        count = bisect_right(self.expected.ends, self._length)
        self.arrivals.extend([now] * (count - len(self.arrivals)))
