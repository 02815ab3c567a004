"""An embedding: texts to vectors, checked, counted and routed as an answer is. Nothing of it is stored."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.conversation.chat_model import FinishReason, TokenUsage
from services.conversation.model import Embeddings, UsageRecord
from services.conversation.moderation_model import InputVerdict
from services.conversation.peers.embedding import EmbeddingPeers
from services.conversation.peers.moderation import ModerationPeer
from services.conversation.peers.router import RouterPeer
from services.conversation.peers.usage import UsagePeer
from services.conversation.preparation import BYTES_PER_TOKEN, REFUSALS
from services.conversation.route_model import Capability, Route, RouteQuery, RouteReceipt
from services.conversation.usage_outbox import UsageOutbox
from services.runtime.clock import Clock, new_id
from services.runtime.errors import DomainError, Reason, first_error
from services.runtime.identity import Identity
from services.runtime.live_tasks import LiveTasks

_log = logging.getLogger(__name__)

SEPARATOR = "\n\x01\n"
"""Between texts that are checked as one; it is nothing that a text has or a rule looks for."""
_LOST = {
    Reason.DEPENDENCY_UNAVAILABLE,
    Reason.ENGINE_FAILED,
    Reason.OVERLOADED,
    Reason.DRAINING,
}
"""Errors of a replica that another one may not have."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors, by whom they were made and what they took."""

    vectors: Sequence[Sequence[float]]
    model: str
    usage: TokenUsage
    receipt: RouteReceipt


class Embedder:
    """Makes embeddings."""

    def __init__(
        self,
        *,
        usage: UsagePeer,
        moderation: ModerationPeer,
        router: RouterPeer,
        inference: EmbeddingPeers,
        outbox: UsageOutbox,
        clock: Clock,
        drain_grace_s: float,
    ) -> None:
        self._usage = usage
        self._moderation = moderation
        self._router = router
        self._inference = inference
        self._outbox = outbox
        self._clock = clock
        self._tasks = LiveTasks(grace_s=drain_grace_s)

    async def embed(
        self, identity: Identity, *, model: str, texts: Sequence[str], dimensions: int | None = None
    ) -> Embedded:
        """Turn texts into vectors.

        Args:
            identity: Who asks.
            model: A model or an alias.
            texts: What to embed.
            dimensions: How many numbers a vector must have; None for as many as the model gives.

        Raises:
            DomainError: The refusal: QUOTA_EXCEEDED, CONTENT_BLOCKED, MODEL_NOT_FOUND, MODEL_NOT_ALLOWED,
                UNSUPPORTED_CAPABILITY, NO_REPLICA, CONTEXT_LENGTH_EXCEEDED, UNSUPPORTED_PARAMETER.
        """
        self._tasks.require_open()
        query = RouteQuery(
            generation_id=new_id(),
            model=model,
            prompt_characters=sum(map(len, texts)),
            capabilities=frozenset((Capability.EMBEDDINGS,)),
        )
        try:
            embedded = await self._embed(query, texts, dimensions)
        except BaseException as error:
            # Also when the client went away: the tokens that were reserved are free again.
            refusal = error.reason if isinstance(error, DomainError) else None
            self._tasks.start(
                self._outbox.release(
                    generation_id=query.generation_id, user_id=identity.user_id, tier=identity.tier, refusal=refusal
                )
            )
            raise
        self._tasks.start(self._record(identity, query, embedded))
        return embedded

    async def drain(self) -> None:
        """Let what was used be recorded."""
        await self._tasks.drain(lambda: None)

    async def _embed(self, query: RouteQuery, texts: Sequence[str], dimensions: int | None) -> Embedded:
        tokens = sum(len(text.encode()) for text in texts) // BYTES_PER_TOKEN + len(texts)
        checked = SEPARATOR.join(text.replace("\x01", "\ufffd") for text in texts)
        try:
            async with asyncio.TaskGroup() as group:
                routing = group.create_task(self._router.route(query))
                checking: asyncio.Task[InputVerdict] = group.create_task(
                    self._moderation.check_input(
                        generation_id=query.generation_id, texts=[checked], last_is_untrusted=True
                    )
                )
                group.create_task(self._usage.acquire(generation_id=query.generation_id, tokens=tokens))
        except* DomainError as errors:
            raise first_error(errors) from errors
        redacted = checking.result().redacted
        if redacted is not None:
            texts = _apart(redacted, len(texts))
        route, made, retries = await self._on_some_replica(query, routing.result(), texts)
        _check(route, made, dimensions)
        usage = TokenUsage(prompt_tokens=made.prompt_tokens)
        prices = route.model.prices
        receipt = replace(
            route.receipt, retries=retries, epochs=1, cost_nano_usd=prices.cost_nano_usd(usage) if prices else None
        )
        return Embedded(made.vectors, route.model.name, usage, receipt)

    async def _on_some_replica(
        self, query: RouteQuery, route: Route, texts: Sequence[str]
    ) -> tuple[Route, Embeddings, int]:
        """The vectors from the replica that was chosen, or from one other when that is lost."""
        try:
            return route, await self._ask(route, texts), 0
        except DomainError as error:
            if error.reason not in _LOST:
                raise
            lost = error
        try:
            # The same model: vectors of another one are of no use beside these.
            failed = "" if lost.reason in REFUSALS else route.replica_id
            other = await self._router.route(
                replace(query, model=route.model.name, excluded=(route.replica_id,), failed=failed, continues=True)
            )
        except DomainError as error:
            raise lost from error
        if other.model.name != route.model.name:
            raise lost
        made = await self._ask(other, texts)
        receipt = replace(
            other.receipt, requested_model=route.receipt.requested_model, experiments=route.receipt.experiments
        )
        return replace(other, receipt=receipt), made, 1

    async def _ask(self, route: Route, texts: Sequence[str]) -> Embeddings:
        return await self._inference.embed(route.address, model=route.model.name, texts=texts, priority=route.priority)

    async def _record(self, identity: Identity, query: RouteQuery, embedded: Embedded) -> None:
        record = UsageRecord(
            generation_id=query.generation_id,
            user_id=identity.user_id,
            tier=identity.tier,
            conversation_id="",
            model=embedded.model,
            usage=embedded.usage,
            finish_reason=FinishReason.STOP,
            ended_at=self._clock.now(),
        )
        try:
            await self._outbox.add(record)
        except DomainError as error:
            _log.error("usage is lost", extra={"generation_id": record.generation_id, "reason": error.reason.value})


def _apart(redacted: str, count: int) -> list[str]:
    texts = redacted.split(SEPARATOR)
    if len(texts) != count:
        # What is to be replaced reaches from one text into the next.
        raise DomainError(
            Reason.CONTENT_BLOCKED,
            "The texts of this request were refused together by the content policy; send them one by one.",
            metadata={"category": "", "policy_version": ""},
        )
    return texts


def _check(route: Route, made: Embeddings, dimensions: int | None) -> None:
    model = route.model
    if made.truncated:
        raise DomainError(
            Reason.CONTEXT_LENGTH_EXCEEDED,
            f"{made.truncated} of the texts do not fit into the model's context of {model.context_length} tokens;"
            " shorten them.",
            metadata={"model": model.name, "context_length": str(model.context_length), "param": "input"},
        )
    length = len(made.vectors[0])
    if dimensions is not None and dimensions != length:
        raise DomainError(
            Reason.UNSUPPORTED_PARAMETER,
            f"The parameter 'dimensions' is not supported by the model '{model.name}' but for {length}.",
            metadata={"model": model.name, "param": "dimensions"},
        )
