"""Stops a generation, wherever it runs."""

from __future__ import annotations

import asyncio
import logging

from services.conversation.generation_store import GenerationStore
from services.conversation.generator import Generator
from services.conversation.model import Generation, GenerationState
from services.conversation.peers.conversation import ConversationPeers
from services.conversation.turn import TurnRunner
from services.conversation.watch import Watch
from services.runtime.errors import DomainError

_log = logging.getLogger(__name__)

END_PATIENCE_S = 2.0
"""How long to wait for the end, so that the caller is told of it."""


class StopGeneration:
    """Writes the wish down and takes it to the engine: in this process, or through the server that runs it.

    Written down, it also reaches a server that takes the generation over, and one that cannot be reached.
    """

    def __init__(
        self,
        *,
        generations: GenerationStore,
        turns: TurnRunner,
        generator: Generator,
        peers: ConversationPeers,
        watch: Watch,
    ) -> None:
        self._generations = generations
        self._turns = turns
        self._generator = generator
        self._peers = peers
        self._watch = watch

    async def stop(self, *, user_id: str, generation_id: str) -> Generation:
        """Stop it and return it, ended if that takes no longer than a moment.

        Raises:
            DomainError: GENERATION_NOT_FOUND.
        """
        if generation_id in self._turns.running:
            # First, for every step of the engine counts; it stops nobody else's, for the next line knows whose it is.
            await self._generations.get(user_id=user_id, generation_id=generation_id)
            if generation_id in self._turns.running:
                self._generator.stop(generation_id)
        generation, owner, address = await self._generations.request_stop(user_id=user_id, generation_id=generation_id)
        if generation.state is not GenerationState.OPEN:
            return generation
        if generation_id not in self._turns.running and address and owner != self._generations.owner:
            await self._tell(address, generation_id)
        try:
            async with asyncio.timeout(END_PATIENCE_S):
                await self._watch.end(generation_id)
        except TimeoutError:
            _log.info("a stopped generation has not ended yet", extra={"generation_id": generation_id})
        return await self._generations.get(user_id=user_id, generation_id=generation_id)

    async def _tell(self, address: str, generation_id: str) -> None:
        try:
            await self._peers.stop(address, generation_id)
        except DomainError as error:
            # Its server reads the wish with its next beat; if it is dead, the one that takes over does.
            _log.info("the owner was not reached", extra={"reason": error.reason.value})
