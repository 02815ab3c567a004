"""Turns in the database: a question is stored with an open generation, an answer with its usage record.

Each write is one statement where that is possible: one round trip, and CockroachDB retries it by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from services.conversation.chat_model import ChatMessage, Role, Sampling
from services.conversation.convert import error_to_json, sampling_to_json
from services.conversation.late_model import revision_from_json
from services.conversation.loaded_turn import LOAD_TURN, LoadedTurn, effective_model, loaded_turn_from
from services.conversation.model import (
    ErrorSummary,
    Leaf,
    Message,
    MessageStatus,
    OpenTurn,
    Outcome,
    TurnKind,
    TurnTarget,
)
from services.conversation.places import ALONG_STRETCHES, Spot, along, find_spot, message_key, path_from
from services.conversation.route_model import RouteReceipt
from services.conversation.rows import message_from
from services.conversation.store import conversation_key, conversation_not_found, request_id_reused
from services.conversation.tree import Path, Place
from services.conversation.turn_finish import RevisionWantedError, finish_parameters
from services.conversation.turn_sql import BEGIN_AT_LEAF, BEGIN_AT_PLACE, DISCARD, FIND_REQUEST, FINISH, FINISHED, LOCK
from services.runtime.clock import Clock, new_id
from services.runtime.database import Connection, Database, Row
from services.runtime.errors import DomainError, Reason


class GenerationMovedError(Exception):
    """Another server owns the generation now."""


@dataclass(frozen=True, slots=True)
class KnownRequest:
    """What an earlier use of a request_id led to."""

    generation_id: str
    request_hash: str
    open: bool
    answer: Message


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Messages that the model may see, newest first: depth, id and message."""

    messages: Sequence[tuple[int, str, ChatMessage]]
    low: int
    """The lowest depth that was looked at; nothing is older than depth 1."""


@dataclass(frozen=True, slots=True)
class _Settings:
    """What the conversation and its user have set for every turn."""

    model: str
    system_prompt: str
    custom_instructions: str
    default_model: str
    affinity_id: object
    last_replica_id: str


class TurnStore:
    """What a turn writes and reads. `owner` names this process in the generations that it runs."""

    def __init__(self, *, database: Database, clock: Clock, owner: str) -> None:
        self._database = database
        self._clock = clock
        self._owner = owner

    async def history(self, *, conversation_id: str, path: Path, before_depth: int, limit: int) -> HistoryPage:
        """Messages that the model may see among the `limit` ones of a path before a depth, newest first."""
        high = before_depth - 1
        low = max(1, before_depth - limit)
        stretches = path.stretches(low, high)
        rows = await self._database.statement(
            "SELECT m.depth, m.id, m.role, m.content" + ALONG_STRETCHES + " WHERE m.status IN ('completed', 'stopped')"
            " AND m.content <> '' ORDER BY m.depth DESC",
            along(conversation_id, stretches),
        )
        return HistoryPage([(row[0], str(row[1]), ChatMessage(Role(row[2]), row[3])) for row in rows], low)

    async def begin_turn(
        self,
        *,
        user_id: str,
        tier: str,
        conversation_id: str,
        content: str,
        model: str,
        request_id: str,
        request_hash: str,
        target: TurnTarget,
        sampling: Sampling,
        residency: str = "",
        tenant_id: str = "",
    ) -> OpenTurn | KnownRequest:
        """Store the user's message, unless there is one to answer anew, and an open generation, once per request_id.

        The branch that is shown ends in the new answer from now on.

        Returns the open turn, or what the request_id led to before.

        Raises:
            DomainError: CONVERSATION_NOT_FOUND, CONVERSATION_BUSY (its metadata names the generation that runs),
                MESSAGE_NOT_FOUND, WRONG_MESSAGE_ROLE, REQUEST_ID_REUSED.
        """
        parameters: dict[str, Any] = {
            "id": str(conversation_key(conversation_id)),
            "user": user_id,
            "tier": tier,
            "residency": residency,
            "tenant": tenant_id,
            "content": content,
            "model": model,
            "sampling": Jsonb(sampling_to_json(sampling)),
            "request": request_id or None,
            "hash": request_hash,
            "generation": new_id(),
            "question": new_id(),
            "answer": new_id(),
            "owner": self._owner,
            "now": self._clock.now(),
        }
        if target.kind is TurnKind.SEND:
            follows = str(message_key(target.message_id)) if target.message_id else None
            try:
                rows = await self._database.statement(BEGIN_AT_LEAF, {**parameters, "follows": follows, "own": True})
            except psycopg.errors.UniqueViolation:
                rows = []
            if rows:
                return await self._begun_at_leaf(parameters, rows[0])
        return await self._begin_anywhere(parameters, target)

    async def _begun_at_leaf(self, parameters: dict[str, Any], row: Row) -> OpenTurn:
        last_sequence, *settings = row[:7]
        place = row[7:]
        leaf_id, branch, depth, path_branches, path_starts = place
        path = path_from(path_branches, path_starts)
        if path.branches[-1] != branch:
            # The statement waited for another one, and does not see all that was written meanwhile.
            path = await self._path(parameters["id"], branch)
        return _open_turn(
            parameters,
            settings=_Settings(*settings),
            spot=Spot(str(leaf_id or ""), Place(branch, depth + 1), path),
            last_sequence=last_sequence,
            leaf=Leaf(str(leaf_id or ""), Place(branch, depth)),
        )

    async def _path(self, conversation_id: str, branch: int) -> Path:
        rows = await self._database.statement(
            "SELECT path_branches, path_starts FROM conversation.branches"
            " WHERE conversation_id = %(id)s AND branch = %(branch)s",
            {"id": conversation_id, "branch": branch},
        )
        return path_from(*rows[0])

    async def _begin_anywhere(self, parameters: dict[str, Any], target: TurnTarget) -> OpenTurn | KnownRequest:
        """Begin a turn that does not simply follow the leaf, or say why none can begin."""

        async def work(connection: Connection) -> OpenTurn | KnownRequest:
            cursor = await connection.execute(LOCK, parameters)
            row = await cursor.fetchone()
            if row is None:
                raise conversation_not_found(parameters["id"])
            cursor = await connection.execute(FIND_REQUEST, parameters)
            known = await cursor.fetchone()
            if known is not None:
                return _same_request(_known_request(known), parameters)
            active, last_sequence, next_branch, leaf_id, leaf_branch, leaf_depth, *settings = row
            if active is not None:
                raise _busy(parameters["id"], str(active))
            leaf = Leaf(str(leaf_id or ""), Place(leaf_branch, leaf_depth))
            spot = await find_spot(
                connection, conversation_id=parameters["id"], target=target, leaf=leaf, next_branch=next_branch
            )
            own = spot.question is None
            last_sequence += 2 if own else 1
            place = {
                "own": own,
                "last": last_sequence,
                "parent": spot.parent_id or None,
                "branch": spot.first.branch,
                "depth": spot.first.depth + (1 if own else 0),
                "opened": spot.opened is not None,
                "path_branches": list(spot.opened.branches) if spot.opened else [],
                "path_starts": list(spot.opened.starts) if spot.opened else [],
            }
            if spot.question is not None:
                place["question"] = spot.question.id
            await connection.execute(BEGIN_AT_PLACE, {**parameters, **place})
            return _open_turn(
                parameters, settings=_Settings(*settings), spot=spot, last_sequence=last_sequence, leaf=leaf
            )

        try:
            return await self._database.run(work)
        except psycopg.errors.UniqueViolation:
            # The same request_id came for another conversation at the same time.
            known = await self.find_request(user_id=parameters["user"], request_id=parameters["request"] or "")
            if known is None:
                raise
            return _same_request(known, parameters)

    async def find_request(self, *, user_id: str, request_id: str) -> KnownRequest | None:
        """What a request_id led to, None when it was not used."""
        rows = await self._database.statement(FIND_REQUEST, {"user": user_id, "request": request_id or None})
        return _known_request(rows[0]) if rows else None

    async def load_turn(self, generation_id: str) -> LoadedTurn | None:
        """Read a turn that is open, whoever began it; None when it is not open any more."""
        rows = await self._database.statement(LOAD_TURN, {"id": generation_id})
        return loaded_turn_from(rows[0]) if rows else None

    async def discard_turn(self, turn: OpenTurn) -> bool:
        """Undo a turn of which nothing was generated, so that it can be tried again. Returns whether it was undone.

        Nothing is undone when the turn has ended, or is another server's by now.
        """
        added = 2 if turn.own_question else 1
        rows = await self._database.statement(
            DISCARD,
            {
                "generation": turn.generation_id,
                "epoch": turn.epoch,
                "added": added,
                "first": turn.answer_sequence - added + 1,
                "leaf": turn.previous_leaf.message_id or None,
                "leaf_branch": turn.previous_leaf.place.branch,
                "leaf_depth": turn.previous_leaf.place.depth,
                "opened": turn.opened_branch,
            },
        )
        return bool(rows)

    async def change_question(
        self,
        turn: OpenTurn,
        *,
        content: str | None = None,
        status: MessageStatus | None = None,
        error: ErrorSummary | None = None,
    ) -> None:
        """Store the user's message as moderation left it. One that an earlier turn stored stays as it is."""
        if not turn.own_question:
            return
        await self._database.statement(
            "UPDATE conversation.messages SET content = coalesce(%(content)s, content),"
            " status = coalesce(%(status)s, status), error = coalesce(%(error)s, error)"
            " WHERE conversation_id = %(conversation)s AND sequence = %(sequence)s",
            {
                "content": content,
                "status": status.value if status else None,
                "error": Jsonb(error_to_json(error)) if error else None,
                "conversation": turn.conversation_id,
                "sequence": turn.user_message.sequence,
            },
        )

    async def finish_turn(
        self,
        turn: OpenTurn,
        outcome: Outcome,
        *,
        model: str,
        route: RouteReceipt | None,
        last_seq: int,
        revised: bool = False,
    ) -> Message | None:
        """Store how a turn ended, together with its usage record; once, whatever is retried.

        Args:
            turn: The turn.
            outcome: How it ended.
            model: Who answered.
            route: And how that came about.
            last_seq: Position of the terminal event.
            revised: Whether what a late verdict says is part of the outcome.

        Returns:
            The answer as stored; None when the conversation is gone.

        Raises:
            GenerationMovedError: Another server owns the generation; nothing was stored.
            RevisionWantedError: A late verdict says how it must end; nothing was stored.
        """
        parameters = finish_parameters(
            turn, outcome, model=model, route=route, last_seq=last_seq, revised=revised, now=self._clock.now()
        )
        rows = await self._database.statement(FINISH, parameters)
        if rows:
            return await self._with_siblings(turn, message_from(rows[0]))
        rows = await self._database.statement(FINISHED, parameters)
        if rows and rows[0][0] != turn.epoch:
            raise GenerationMovedError
        if rows and rows[0][1]:
            raise RevisionWantedError(revision_from_json(rows[0][1]))
        # An earlier try of this one, whose reply was lost.
        return await self._with_siblings(turn, message_from(rows[0][2:])) if rows else None

    async def _with_siblings(self, turn: OpenTurn, answer: Message) -> Message:
        """The answer as it is read later: one that was written anew stands beside others."""
        if turn.own_question:
            return answer
        rows = await self._database.statement(
            "SELECT id FROM conversation.messages WHERE conversation_id = %(conversation)s"
            " AND parent_id = %(parent)s ORDER BY sequence",
            {"conversation": turn.conversation_id, "parent": turn.user_message.id},
        )
        return replace(answer, sibling_ids=tuple(str(row[0]) for row in rows) if len(rows) > 1 else ())


def _open_turn(
    parameters: dict[str, Any], *, settings: _Settings, spot: Spot, last_sequence: int, leaf: Leaf
) -> OpenTurn:
    return OpenTurn(
        generation_id=parameters["generation"],
        user_id=parameters["user"],
        tier=parameters["tier"],
        conversation_id=parameters["id"],
        user_message=spot.question
        or Message(
            id=parameters["question"],
            conversation_id=parameters["id"],
            parent_id=spot.parent_id,
            role=Role.USER,
            content=parameters["content"],
            status=MessageStatus.COMPLETED,
            sequence=last_sequence - 1,
            created_at=parameters["now"],
            generation_id=parameters["generation"],
            depth=spot.first.depth,
        ),
        answer_id=parameters["answer"],
        answer_sequence=last_sequence,
        model=effective_model(parameters["model"], settings.model, settings.default_model),
        system_prompt=settings.system_prompt,
        custom_instructions=settings.custom_instructions,
        path=spot.path,
        own_question=spot.question is None,
        previous_leaf=leaf,
        residency=parameters["residency"],
        tenant_id=parameters["tenant"],
        affinity_id=str(settings.affinity_id or ""),
        last_replica_id=settings.last_replica_id,
        opened_branch=spot.first.branch if spot.opened else None,
    )


def _known_request(row: Row) -> KnownRequest:
    generation_id, request_hash, status, *message = row
    return KnownRequest(str(generation_id), request_hash, status == "open", message_from(tuple(message)))


def _same_request(known: KnownRequest, parameters: dict[str, Any]) -> KnownRequest:
    if known.request_hash != parameters["hash"] or known.answer.conversation_id != parameters["id"]:
        raise request_id_reused(parameters["request"])
    return known


def _busy(conversation_id: str, generation_id: str) -> DomainError:
    return DomainError(
        Reason.CONVERSATION_BUSY,
        "An answer is being generated in this conversation; wait until it has ended.",
        metadata={"conversation_id": conversation_id, "generation_id": generation_id},
    )
