"""The generations of one peer, which share one stream."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from services.inference.model import Delta, End, FinishReason, GenerationRequest, Sink
from services.inference.replica import Replica
from services.runtime.errors import DomainError

_log = logging.getLogger(__name__)


class Peer:
    """Starts and cancels on behalf of a peer; what comes of it goes to `put`, in order per generation."""

    def __init__(self, *, replica: Replica, put: Sink) -> None:
        self._replica = replica
        self._put = put
        self._running: dict[str, GenerationRequest] = {}

    def start(self, request: GenerationRequest) -> None:
        """Start a generation. One that cannot be started ends with its error; the others do not notice."""
        generation_id = request.generation_id
        if generation_id in self._running:
            # An end for the second would be read as the end of the first.
            _log.warning("generation is already running; start ignored", extra={"generation_id": generation_id})
            return
        self._running[generation_id] = request
        try:
            self._replica.submit(request, self._on_delta)
        except DomainError as error:
            self.refuse(generation_id, error)

    def refuse(self, generation_id: str, error: DomainError) -> None:
        """End a generation with an error."""
        self._on_delta(Delta(generation_id, "", [], 0, End(FinishReason.ERROR, error=error)))

    def cancel(self, generation_ids: Iterable[str]) -> None:
        """Cancel generations; unknown ones are ignored."""
        for generation_id in generation_ids:
            request = self._running.get(generation_id)
            if request is not None:
                self._replica.cancel(request.model, request.key)

    def close(self) -> None:
        """The stream is over: nobody waits for what still runs."""
        self.cancel(list(self._running))

    def _on_delta(self, delta: Delta) -> None:
        if delta.end is not None:
            self._running.pop(delta.generation_id, None)
        self._put(delta)
