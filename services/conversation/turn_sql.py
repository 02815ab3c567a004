"""The statements with which a turn begins and is undone."""

from __future__ import annotations

from typing import LiteralString

from services.conversation.rows import MESSAGE

_STORE: LiteralString = """
, m AS (
    INSERT INTO conversation.messages (conversation_id, user_id, sequence, id, parent_id, role, content, status,
        generation_id, created_at, branch, depth)
    SELECT id, %(user)s, last_sequence - 1, %(question)s::UUID, parent_id, 'user', %(content)s, 'completed',
        %(generation)s::UUID, %(now)s, leaf_branch, leaf_depth - 1 FROM c WHERE %(own)s
    UNION ALL
    SELECT id, %(user)s, last_sequence, %(answer)s::UUID, %(question)s::UUID, 'assistant', '', 'in_progress',
        %(generation)s::UUID, %(now)s, leaf_branch, leaf_depth FROM c
    RETURNING id
), g AS (
    INSERT INTO conversation.generations (id, conversation_id, user_id, tier, user_message_id, message_id, request_id,
        request_hash, requested_model, sampling, status, epoch, owner, created_at, residency, tenant_id)
    SELECT %(generation)s::UUID, id, %(user)s, %(tier)s, %(question)s::UUID, %(answer)s::UUID, %(request)s::UUID,
        %(hash)s, %(model)s, %(sampling)s::JSONB, 'open', 1, %(owner)s, %(now)s, %(residency)s, %(tenant)s FROM c
    RETURNING id
)
"""
"""What every beginning stores, for the changed conversation `c` whose leaf is the new answer."""

BEGIN_AT_LEAF: LiteralString = (
    """
WITH leaf AS (
    -- Locked, for a statement that waited would otherwise take what stood here before.
    SELECT id, leaf_message_id, leaf_branch, leaf_depth FROM conversation.conversations
    WHERE id = %(id)s::UUID AND user_id = %(user)s AND deleted_at IS NULL AND active_generation_id IS NULL
        AND (%(follows)s::UUID IS NULL OR leaf_message_id = %(follows)s::UUID)
    FOR UPDATE
), c AS (
    UPDATE conversation.conversations AS c
    SET last_sequence = c.last_sequence + 2, updated_at = greatest(c.updated_at, %(now)s),
        active_generation_id = %(generation)s::UUID,
        leaf_message_id = %(answer)s::UUID, leaf_depth = leaf.leaf_depth + 2
    FROM leaf WHERE c.id = leaf.id
    RETURNING c.id, c.last_sequence, c.model, c.system_prompt, c.leaf_branch, c.leaf_depth,
        leaf.leaf_message_id AS parent_id, c.affinity_id, c.last_replica_id
)"""
    + _STORE
    + """
SELECT c.last_sequence, c.model, c.system_prompt, coalesce(s.custom_instructions, ''), coalesce(s.default_model, ''),
    c.affinity_id, c.last_replica_id, c.parent_id, c.leaf_branch, c.leaf_depth - 2, b.path_branches, b.path_starts
FROM c
LEFT JOIN conversation.user_settings AS s ON s.user_id = %(user)s
LEFT JOIN conversation.branches AS b ON b.conversation_id = c.id AND b.branch = c.leaf_branch
"""
)
"""Begins a turn that follows the leaf, in one round trip. No row when there is no such conversation to begin in."""

LOCK: LiteralString = """
SELECT c.active_generation_id, c.last_sequence, c.next_branch, c.leaf_message_id, c.leaf_branch, c.leaf_depth,
    c.model, c.system_prompt, coalesce(s.custom_instructions, ''), coalesce(s.default_model, ''), c.affinity_id,
    c.last_replica_id
FROM conversation.conversations AS c LEFT JOIN conversation.user_settings AS s ON s.user_id = c.user_id
WHERE c.id = %(id)s::UUID AND c.user_id = %(user)s AND c.deleted_at IS NULL
FOR UPDATE OF c
"""

BEGIN_AT_PLACE: LiteralString = (
    """
WITH c AS (
    UPDATE conversation.conversations
    SET last_sequence = %(last)s, updated_at = greatest(updated_at, %(now)s),
        active_generation_id = %(generation)s::UUID, leaf_message_id = %(answer)s::UUID,
        leaf_branch = %(branch)s, leaf_depth = %(depth)s,
        next_branch = next_branch + CASE WHEN %(opened)s THEN 1 ELSE 0 END
    WHERE id = %(id)s::UUID
    RETURNING id, last_sequence, leaf_branch, leaf_depth, %(parent)s::UUID AS parent_id
), b AS (
    INSERT INTO conversation.branches (conversation_id, branch, path_branches, path_starts)
    SELECT id, leaf_branch, %(path_branches)s::INT8[], %(path_starts)s::INT8[] FROM c WHERE %(opened)s
    RETURNING branch
)"""
    + _STORE
    + "SELECT id FROM c"
)
"""Begins a turn at a place that was found free, in a conversation that is locked."""

FIND_REQUEST: LiteralString = (
    "SELECT g.id, g.request_hash, g.status, "
    + ", ".join("m." + column.strip() for column in MESSAGE.split(","))
    + " FROM conversation.generations AS g JOIN conversation.messages AS m ON m.id = g.message_id"
    " WHERE g.user_id = %(user)s AND g.request_id = %(request)s::UUID"
)

DISCARD: LiteralString = """
WITH g AS (
    DELETE FROM conversation.generations
    WHERE id = %(generation)s::UUID AND status = 'open' AND epoch = %(epoch)s
    RETURNING id, conversation_id
), c AS (
    UPDATE conversation.conversations
    SET active_generation_id = NULL, last_sequence = last_sequence - %(added)s, leaf_message_id = %(leaf)s::UUID,
        leaf_branch = %(leaf_branch)s, leaf_depth = %(leaf_depth)s
    WHERE id IN (SELECT conversation_id FROM g) AND active_generation_id = %(generation)s::UUID
    RETURNING id
), b AS (
    DELETE FROM conversation.branches
    WHERE conversation_id IN (SELECT id FROM c) AND branch = %(opened)s::INT8
    RETURNING branch
)
DELETE FROM conversation.messages
WHERE conversation_id IN (SELECT id FROM c) AND sequence >= %(first)s AND generation_id = %(generation)s::UUID
RETURNING id
"""
"""Undoes an open turn. No row when there was nothing to undo."""

FINISH: LiteralString = (
    """
WITH g AS (
    UPDATE conversation.generations SET status = %(state)s, finished_at = %(now)s, last_seq = %(last_seq)s
    WHERE id = %(generation)s AND status = 'open' AND epoch = %(epoch)s AND (revision IS NULL OR %(revised)s)
    RETURNING id, created_at
), e AS (
    INSERT INTO conversation.exposures (experiment, generation_id, arm, user_id, conversation_id, message_id, status,
        first_token_ms, duration_ms, completion_tokens, cost_nano_usd, created_at)
    SELECT experiment, g.id, arm, %(user)s, %(conversation)s::UUID, %(answer)s::UUID, %(status)s, %(first_token_ms)s,
        extract(epoch FROM %(now)s - g.created_at)::FLOAT8 * 1000, %(completion_tokens)s, %(cost_nano_usd)s::INT8,
        %(now)s
    FROM g, unnest(%(experiments)s::TEXT[], %(arms)s::TEXT[]) AS dealt (experiment, arm)
    ON CONFLICT (experiment, generation_id) DO NOTHING
    RETURNING experiment
), u AS (
    INSERT INTO conversation.usage_outbox (generation_id, user_id, tier, conversation_id, model, prompt_tokens,
        completion_tokens, cached_tokens, finish_reason, ended_at)
    SELECT %(generation)s::UUID, %(user)s, %(tier)s, %(conversation)s, %(model)s, %(prompt_tokens)s,
        %(completion_tokens)s, %(cached_tokens)s, %(finish_reason)s, %(now)s
    -- Also when the conversation is gone: the tokens were used. Usage counts each generation once.
    WHERE EXISTS (SELECT 1 FROM g) OR NOT EXISTS (SELECT 1 FROM conversation.generations WHERE id = %(generation)s)
    ON CONFLICT (generation_id) DO NOTHING
    RETURNING generation_id
), c AS (
    UPDATE conversation.conversations SET active_generation_id = NULL, updated_at = greatest(updated_at, %(now)s),
        last_replica_id = coalesce(nullif(%(replica)s, ''), last_replica_id)
    WHERE id = %(conversation)s::UUID AND active_generation_id IN (SELECT id FROM g)
    RETURNING id
)
UPDATE conversation.messages
SET content = %(content)s, status = %(status)s, model = %(model)s, finish_reason = %(finish_reason)s,
    prompt_tokens = %(prompt_tokens)s, completion_tokens = %(completion_tokens)s,
    cached_tokens = %(cached_tokens)s, route = %(route)s, error = %(error)s
WHERE conversation_id = %(conversation)s::UUID AND sequence = %(sequence)s AND EXISTS (SELECT 1 FROM g)
RETURNING """
    + MESSAGE
)
"""Ends a generation of this epoch. No row when another epoch has begun, it was ended before, it is gone, or a late
verdict says that it must end otherwise.
"""

FINISHED: LiteralString = (
    "SELECT g.epoch, CASE WHEN g.status = 'open' THEN g.revision END, "
    + ", ".join("m." + column.strip() for column in MESSAGE.split(","))
    + " FROM conversation.generations g"
    " JOIN conversation.messages m ON m.conversation_id = g.conversation_id AND m.id = g.message_id"
    " WHERE g.id = %(generation)s"
)
