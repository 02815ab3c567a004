"""One answer from its first event to its last, over as many connections as that takes."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager

from services.cli.remote import Completed, Event, Failed, Remote, RemoteError, Steps

PATIENCE_S = 30.0
"""How long to try without hearing anything new."""

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0
_SAY_AFTER_S = 3.0


class Follower:
    """One message and its answer.

    Until the first event the message is sent again with the same `request_id`, so that it is stored and answered once
    however often it arrives. From then on the answer is watched after the last event that was seen: nothing comes twice
    and nothing is missed, whichever process died in between.
    """

    def __init__(
        self,
        *,
        remote: Remote,
        say: Callable[[str], None],
        pause: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._remote = remote
        self._say = say
        self._pause = pause
        self._now = now
        self._generation_id = ""
        self._seq = 0

    @property
    def has_begun(self) -> bool:
        """Whether there is an answer that can be stopped."""
        return bool(self._generation_id)

    def send(self, conversation_id: str, *, text: str, model: str) -> Generator[Event, None, None]:
        """Send the message and yield what comes of it, up to and including the last event.

        Raises:
            RemoteError: it was refused, or nothing new was heard for `PATIENCE_S`.
        """
        request_id = str(uuid.uuid4())

        def stream() -> AbstractContextManager[Steps]:
            if self.has_begun:
                return self._watch()
            return self._remote.stream_message(conversation_id, text=text, model=model, request_id=request_id)

        return self._follow(stream)

    def stop(self) -> Generator[Event, None, None]:
        """Stop the answer, and yield what is still to come of it: at least its last event.

        Raises:
            RemoteError: as `send` does.
        """
        self._persist(lambda: self._remote.stop_generation(self._generation_id))
        return self._follow(self._watch)

    def _watch(self) -> AbstractContextManager[Steps]:
        return self._remote.watch_generation(self._generation_id, after_seq=self._seq)

    def _follow(self, stream: Callable[[], AbstractContextManager[Steps]]) -> Generator[Event, None, None]:
        retries = self._retries()
        while True:
            try:
                with stream() as steps:
                    for step in steps:
                        self._generation_id = step.generation_id or self._generation_id
                        self._seq = max(self._seq, step.seq)
                        retries.heard()
                        yield step.event
                        if isinstance(step.event, Completed | Failed):
                            return
            except RemoteError as error:
                retries.after(error)

    def _persist(self, call: Callable[[], None]) -> None:
        retries = self._retries()
        while True:
            try:
                return call()
            except RemoteError as error:
                retries.after(error)

    def _retries(self) -> _Retries:
        return _Retries(say=self._say, pause=self._pause, now=self._now)


class _Retries:
    """The attempts since something was last heard."""

    def __init__(self, *, say: Callable[[str], None], pause: Callable[[float], None], now: Callable[[], float]) -> None:
        self._say = say
        self._pause = pause
        self._now = now
        self.heard()

    def heard(self) -> None:
        """Something came: what was tried before does not count any more."""
        self._since: float | None = None
        self._pause_s = _FIRST_PAUSE_S
        self._said = False

    def after(self, error: RemoteError) -> None:
        """Wait before the next attempt, or raise `error` when another one makes no sense."""
        if self._since is None:
            self._since = self._now()
        waited_s = self._now() - self._since
        if not error.lost or waited_s >= PATIENCE_S:
            raise error
        if waited_s >= _SAY_AFTER_S and not self._said:
            self._said = True
            self._say("(the connection is lost; trying to go on ...)")
        self._pause(self._pause_s)
        self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)
