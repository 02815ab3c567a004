"""The Moderation service: one stream carries the answers of all of this process's generations."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

import grpc

from chatmesh.moderation.v1.moderation_service_pb2_grpc import ModerationServiceStub
from services.conversation.moderation_model import (
    AnswerContext,
    Availability,
    InputVerdict,
    ModerationCheck,
    ModerationMode,
    Stand,
)
from services.conversation.peers.moderation_convert import (
    abandonment,
    check_stream_requests,
    input_check,
    input_verdict_from_pb,
    not_checked,
    refusal_from_pb,
    segment,
    stand_from_pb,
)
from services.runtime.client import DEADLINE_MARGIN_S, call_unary, open_stream
from services.runtime.errors import DomainError, Reason
from services.runtime.identity import current_identity, current_scope
from services.runtime.pacing import Pacer

_log = logging.getLogger(__name__)

TIMEOUT_S = 3.0
RECONNECT_S = 0.1
GIVE_UP_S = 8.0
"""How long answers wait for a lost stream to come back before they fail. A process that was killed is there again after
four seconds on a busy machine: it loads the classifier."""
ESTABLISHED_S = 1.0
"""A stream that lasts so long had a peer, even when that had nothing to say: one that has none fails at once."""
LAG_LOOK_S = 0.25
"""How often is looked for answers whose check lags."""
MAX_AVAILABILITIES = 1024
"""Kinds of users of whom is remembered what the policy says about the time when Moderation is gone."""
_GONE = {Reason.DEPENDENCY_UNAVAILABLE, Reason.DEADLINE_EXCEEDED, Reason.DRAINING}


class ModeratedAnswer(Protocol):
    """An answer that is being checked. The methods return at once."""

    generation_id: str

    @property
    def context(self) -> AnswerContext | None:
        """What it is part of; None when nobody said."""
        ...

    def take_segment(self) -> tuple[str, bool]:
        """The text that was not sent yet, and whether it is the last."""
        ...

    def rewind(self) -> None:
        """Make `take_segment` begin again at the start of the answer."""
        ...

    def on_stand(self, stand: Stand) -> None:
        """What has been decided."""
        ...

    def look_for_lag(self, now: float) -> None:
        """Show what is not checked, when that lags for too long and the policy lets it pass."""
        ...

    def on_moderation_lost(self, error: DomainError) -> None:
        """Nothing more will be decided; whether anything may be shown all the same is the answer's to know."""
        ...


class ModerationPeer:
    """Checks what goes in and what comes out. Run `run` as a task."""

    def __init__(self, channel: grpc.aio.Channel, *, pacer: Pacer) -> None:
        self._stub = ModerationServiceStub(channel)
        self._pacer = pacer
        self._answers: dict[str, ModeratedAnswer] = {}
        self._dirty: dict[str, ModeratedAnswer | None] = {}
        """Answers with something to send; None for one that was abandoned."""
        self._unknown: set[str] = set()
        """Answers of which this life of the stream has sent nothing."""
        self._wake = asyncio.Event()
        self._urgent = asyncio.Event()
        self._availabilities: OrderedDict[tuple[str, str], Availability] = OrderedDict()

    async def check_input(
        self,
        *,
        generation_id: str,
        texts: Sequence[str],
        earlier: Sequence[str] = (),
        untrusted: Sequence[str] = (),
        last_is_untrusted: bool = False,
        conversation_id: str = "",
        what: str = "This message",
    ) -> InputVerdict:
        """Check what a user sends; the last text is the new one.

        Args:
            generation_id: The generation that would answer.
            texts: What the user is answerable for, oldest first.
            earlier: The user's messages before that, which were checked when they came.
            untrusted: What goes to the model and the user did not write.
            last_is_untrusted: Whether the last of `texts` is such, too.
            conversation_id: The conversation, when there is one.
            what: What a refusal calls it.

        Raises:
            DomainError: CONTENT_BLOCKED, CONTENT_HELD, or Moderation is not there and the policy lets nothing pass.
        """
        known = self._availability()
        opens = known is not None and known.input_open
        request = input_check(
            generation_id=generation_id,
            conversation_id=conversation_id,
            texts=texts,
            earlier=earlier,
            untrusted=untrusted,
            last_is_untrusted=last_is_untrusted,
        )
        # The checker waits for its layers as long as the policy says, and what the others found counts.
        timeout_s = TIMEOUT_S if known is None else max(2 * known.patience_s, TIMEOUT_S if not opens else 0.0)
        left_s = current_scope().remaining_s()
        hurried = left_s is not None and left_s - DEADLINE_MARGIN_S < timeout_s
        try:
            response = await call_unary(self._stub.CheckInput, request, timeout_s=timeout_s, service="moderation")
        except DomainError as error:
            if known is None or not opens or error.reason not in _GONE:
                raise
            if hurried and error.reason is Reason.DEADLINE_EXCEEDED:
                # Else whoever sets a short deadline would pass unchecked.
                raise
            _log.warning("an input was not checked", extra={"generation_id": generation_id})
            return InputVerdict(None, "", ModerationCheck(ModerationMode.OPEN), known, known.policy_version)
        if (refusal := refusal_from_pb(response.verdict, what=what)) is not None:
            raise refusal
        verdict = input_verdict_from_pb(request, response)
        if verdict.availability is not None:
            self._remember(verdict.availability)
        return verdict

    def _availability(self) -> Availability | None:
        return self._availabilities.get(_kind())

    def _remember(self, availability: Availability) -> None:
        self._availabilities[_kind()] = availability
        self._availabilities.move_to_end(_kind())
        if len(self._availabilities) > MAX_AVAILABILITIES:
            self._availabilities.popitem(last=False)

    def submit(self, answer: ModeratedAnswer) -> None:
        """Say that an answer has something to send. The first time, it is sent without gathering."""
        generation_id = answer.generation_id
        if generation_id not in self._answers:
            self._answers[generation_id] = answer
            self._unknown.add(generation_id)
            self._urgent.set()
        self._dirty[generation_id] = answer
        self._wake.set()

    def abandon(self, generation_id: str) -> None:
        """Forget an answer."""
        if self._answers.pop(generation_id, None) is not None:
            self._unknown.discard(generation_id)
            self._dirty[generation_id] = None
            self._wake.set()

    async def run(self) -> None:
        """Keep the stream open for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look_for_lag(), name="moderation-lag")
            await self._keep_open()

    async def _look_for_lag(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LAG_LOOK_S)
            for answer in list(self._answers.values()):
                answer.look_for_lag(loop.time())

    async def _keep_open(self) -> None:
        loop = asyncio.get_running_loop()
        lost_since: float | None = None
        while True:
            if not self._answers:
                lost_since = None
                await self._wake.wait()
            opened = loop.time()
            answered = await self._stream()
            if answered or lost_since is None or loop.time() - opened > ESTABLISHED_S:
                lost_since = loop.time()
            if loop.time() - lost_since > GIVE_UP_S:
                self._lose_all()
            for answer in self._answers.values():
                answer.rewind()
                self._dirty[answer.generation_id] = answer
                self._wake.set()
            self._unknown = set(self._answers)
            await asyncio.sleep(RECONNECT_S)

    async def _stream(self) -> bool:
        """One life of the stream. Returns whether anything came back on it."""
        call = open_stream(self._stub.CheckStream, timeout_s=None, service="moderation")
        writer = asyncio.create_task(self._write(call), name="moderation-writer")
        answered = False
        try:
            async for response in call:
                answered = True
                for result in response.results:
                    answer = self._answers.get(result.generation_id)
                    if answer is None:
                        continue
                    answer.on_stand(stand_from_pb(result))
                    if result.done:
                        # The checker keeps what it ended itself until it is told that nobody wants to know.
                        self.abandon(result.generation_id)
        except grpc.aio.AioRpcError as error:
            _log.warning("moderation stream lost", extra={"code": error.code().name})
        finally:
            writer.cancel()
            call.cancel()
        return answered

    async def _write(self, call: grpc.aio.StreamStreamCall) -> None:  # type: ignore[type-arg]
        try:
            while True:
                await self._wake.wait()
                await self._gather()
                self._wake.clear()
                dirty, self._dirty = self._dirty, {}
                segments = []
                for generation_id, answer in dirty.items():
                    if answer is None:
                        segments.append(abandonment(generation_id))
                        continue
                    text, last = answer.take_segment()
                    context = None
                    if generation_id in self._unknown:
                        self._unknown.discard(generation_id)
                        context = answer.context
                    segments.append(segment(generation_id, text, last=last, context=context))
                for request in check_stream_requests(segments):
                    await call.write(request)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            # The reader hears of it too, and says why.
            _log.debug("moderation stream is gone")

    async def _gather(self) -> None:
        """Let more gather while this process is busy, but let nobody wait for a first token."""
        if self._pacer.linger_s > 0 and not self._urgent.is_set():
            try:
                async with asyncio.timeout(self._pacer.linger_s):
                    await self._urgent.wait()
            except TimeoutError:
                pass
        self._urgent.clear()

    def _lose_all(self) -> None:
        error = not_checked()
        # One that may be shown all the same ends when it has been written, and is forgotten then.
        for answer in list(self._answers.values()):
            answer.on_moderation_lost(error)


def _kind() -> tuple[str, str]:
    """The kind of the user that is being served: the policy may differ by tenant and tier."""
    identity = current_identity()
    return ("", "") if identity is None else (identity.tenant_id, identity.tier)
