"""A turn as the database knows it, for a server that did not begin it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import LiteralString

from services.conversation.chat_model import Sampling
from services.conversation.convert import sampling_from_json
from services.conversation.model import Leaf, Message, OpenTurn
from services.conversation.places import path_from
from services.conversation.rows import MESSAGE, message_from
from services.conversation.tree import Path, Place
from services.runtime.database import Row


@dataclass(frozen=True, slots=True)
class LoadedTurn:
    """An open turn and what was asked of it."""

    turn: OpenTurn
    requested_model: str
    """As the request said; empty when it named none."""
    sampling: Sampling
    request_id: str
    stop_requested: bool
    begun: bool
    """Whether something of it may have been shown."""
    log_gap: bool
    """Whether its log in Redis may lack events that a client has seen."""


LOAD_TURN: LiteralString = (
    "SELECT g.id, g.user_id, g.tier, g.conversation_id, g.requested_model, g.sampling, g.request_id,"
    " g.stop_requested, g.log_gap, g.epoch, c.model, c.system_prompt, coalesce(s.custom_instructions, ''),"
    " coalesce(s.default_model, ''), a.id, a.sequence, a.branch, q.branch, b.path_branches, b.path_starts,"
    " p.branch, p.depth, n.id, n.branch, n.depth, g.begun, g.residency, c.affinity_id,"
    " c.last_replica_id, g.tenant_id, "
    + ", ".join("q." + column.strip() for column in MESSAGE.split(","))
    + """
FROM conversation.generations AS g
JOIN conversation.conversations AS c ON c.id = g.conversation_id
JOIN conversation.messages AS a ON a.id = g.message_id
JOIN conversation.messages AS q ON q.id = g.user_message_id
LEFT JOIN conversation.messages AS p ON p.id = q.parent_id
-- The newest message before the turn.
LEFT JOIN conversation.messages AS n ON n.conversation_id = g.conversation_id
    AND n.sequence = CASE WHEN q.generation_id = g.id THEN q.sequence ELSE a.sequence END - 1
LEFT JOIN conversation.branches AS b ON b.conversation_id = g.conversation_id AND b.branch = q.branch
LEFT JOIN conversation.user_settings AS s ON s.user_id = g.user_id
WHERE g.id = %(id)s AND g.status = 'open'
"""
)
"""The row that `loaded_turn_from` reads."""


def loaded_turn_from(row: Row) -> LoadedTurn:
    """A row of `LOAD_TURN`."""
    generation_id, user_id, tier, conversation_id, requested_model, sampling, request_id = row[:7]
    stop_requested, log_gap, epoch, model, system_prompt, custom_instructions, default_model = row[7:14]
    answer_id, answer_sequence, answer_branch, question_branch, branches, starts = row[14:20]
    question = message_from(row[30:])
    path = path_from(branches, starts)
    own = question.generation_id == str(generation_id)
    opened = _opened_branch(question, path, own=own, question_branch=question_branch, answer_branch=answer_branch)
    turn = OpenTurn(
        generation_id=str(generation_id),
        user_id=user_id,
        tier=tier,
        conversation_id=str(conversation_id),
        user_message=question,
        answer_id=str(answer_id),
        answer_sequence=answer_sequence,
        model=effective_model(requested_model, model, default_model),
        system_prompt=system_prompt,
        custom_instructions=custom_instructions,
        path=path,
        epoch=epoch,
        own_question=own,
        previous_leaf=_previous_leaf(question, row[20:25], own=own, opened=opened),
        opened_branch=opened,
        residency=row[26],
        affinity_id=str(row[27] or ""),
        last_replica_id=row[28],
        tenant_id=row[29],
    )
    return LoadedTurn(
        turn=turn,
        requested_model=requested_model,
        sampling=sampling_from_json(sampling) if sampling else Sampling(),
        request_id=str(request_id or ""),
        stop_requested=stop_requested,
        log_gap=log_gap,
        begun=row[25],
    )


def effective_model(requested: str, of_conversation: str, of_user: str) -> str:
    """The model or alias that answers."""
    return requested or of_conversation or of_user or "auto"


def _opened_branch(question: Message, path: Path, *, own: bool, question_branch: int, answer_branch: int) -> int | None:
    if own:
        # The first message of a branch opened it; branch 0 is always there.
        return question_branch if question_branch != 0 and path.starts[-1] == question.depth else None
    return answer_branch if answer_branch != question_branch else None


def _previous_leaf(question: Message, found: Row, *, own: bool, opened: int | None) -> Leaf:
    """What was shown before. It is not stored where the turn left the branch that was shown; the newest message before
    the turn is always the end of a branch, and stands in for it.
    """
    parent_branch, parent_depth, newest_id, newest_branch, newest_depth = found
    if own and opened is None:
        return Leaf(question.parent_id, Place(parent_branch, parent_depth)) if question.parent_id else Leaf()
    return Leaf(str(newest_id), Place(newest_branch, newest_depth)) if newest_id else Leaf()
