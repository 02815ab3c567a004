"""Statements of the event store. Each writes what it does into the audit, in the same statement."""

from __future__ import annotations

from typing import LiteralString

RECORD: LiteralString = """
INSERT INTO moderation.events (id, created_at, generation_id, conversation_id, user_id, tenant_id, tier, direction,
    action, category, findings, text_sha256, text_length, text, text_expires_at, policy_version, late, state,
    waiting_since)
SELECT id, created_at, generation_id, conversation_id, user_id, tenant_id, tier, direction, action, category,
    findings::JSONB, text_sha256, text_length, text, text_expires_at, policy_version, late,
    CASE WHEN pending THEN 'pending' ELSE 'closed' END, CASE WHEN pending THEN created_at END
FROM unnest(%(id)s::UUID[], %(created_at)s::TIMESTAMPTZ[], %(generation_id)s::TEXT[], %(conversation_id)s::TEXT[],
    %(user_id)s::TEXT[], %(tenant_id)s::TEXT[], %(tier)s::TEXT[], %(direction)s::TEXT[], %(action)s::TEXT[],
    %(category)s::TEXT[], %(findings)s::TEXT[], %(text_sha256)s::TEXT[], %(text_length)s::INT8[], %(text)s::TEXT[],
    %(text_expires_at)s::TIMESTAMPTZ[], %(policy_version)s::TEXT[], %(late)s::BOOL[], %(pending)s::BOOL[])
    AS new (id, created_at, generation_id, conversation_id, user_id, tenant_id, tier, direction, action, category,
    findings, text_sha256, text_length, text, text_expires_at, policy_version, late, pending)
ON CONFLICT (id) DO NOTHING
"""

_REST: LiteralString = """text IS NOT NULL AS text_kept, text_expires_at, id, created_at, generation_id,
    conversation_id, user_id, tenant_id, tier, direction, action, category, findings, text_sha256, text_length,
    policy_version, late, state, claimed_by, claim_expires_at, decision, decided_by, decided_at, comment, appeal,
    appealed_at"""
WITH_TEXT: LiteralString = "text AS text, " + _REST
WITHOUT_TEXT: LiteralString = "NULL::TEXT AS text, " + _REST

_FREE: LiteralString = "(claim_expires_at IS NULL OR claim_expires_at <= %(now)s)"

NOTED: LiteralString = """, noted AS (
    INSERT INTO moderation.audit (event_id, happened_at, actor, what, detail)
    SELECT id, %(now)s, %(actor)s::TEXT, %(what)s::TEXT, %(detail)s::TEXT FROM touched RETURNING id
)
SELECT * FROM touched
"""
"""Ends a statement whose events are `touched`."""

PEEK: LiteralString = "SELECT " + WITHOUT_TEXT + " FROM moderation.events WHERE id = %(id)s::UUID"

VIEW: LiteralString = (
    "WITH touched AS (SELECT " + WITH_TEXT + " FROM moderation.events WHERE id = %(id)s::UUID)" + NOTED
)

LIST: LiteralString = (
    "WITH noted AS (INSERT INTO moderation.audit (happened_at, actor, what, detail)"
    " VALUES (%(now)s, %(actor)s::TEXT, 'list', %(detail)s::TEXT) RETURNING id)"
    " SELECT " + WITHOUT_TEXT + " FROM moderation.events WHERE true"
)

BY_STATE: dict[str, LiteralString] = {
    "closed": " AND state = 'closed'",
    "decided": " AND state = 'decided'",
    "pending": " AND state = 'pending' AND " + _FREE,
    "claimed": " AND state = 'pending' AND claim_expires_at > %(now)s",
}

CLAIM: LiteralString = (
    "WITH touched AS (UPDATE moderation.events SET state = 'pending', claimed_by = %(actor)s,"
    " claim_expires_at = %(until)s, waiting_since = coalesce(waiting_since, %(now)s)"
    " WHERE id = %(id)s::UUID AND (state = 'closed' OR state = 'pending' AND (claimed_by = %(actor)s OR "
    + _FREE
    + ")) RETURNING "
    + WITH_TEXT
    + ")"
    + NOTED
)
"""A closed event is opened by this: somebody wants to decide on it."""

CLAIM_NEXT: LiteralString = (
    "WITH next AS (SELECT id AS next_id FROM moderation.events WHERE state = 'pending' AND "
    + _FREE
    + " ORDER BY appealed DESC, waiting_since, id LIMIT 1 FOR UPDATE SKIP LOCKED),"
    " touched AS (UPDATE moderation.events SET claimed_by = %(actor)s, claim_expires_at = %(until)s"
    " FROM next WHERE id = next_id AND state = 'pending' AND " + _FREE + " RETURNING " + WITH_TEXT + ")" + NOTED
)

_MINE: LiteralString = (
    "id = %(id)s::UUID AND state = 'pending' AND claimed_by = %(actor)s AND claim_expires_at > %(now)s"
)

RELEASE: LiteralString = (
    "WITH touched AS (UPDATE moderation.events SET claimed_by = '', claim_expires_at = NULL WHERE "
    + _MINE
    + " RETURNING "
    + WITH_TEXT
    + ")"
    + NOTED
)

DECIDE: LiteralString = (
    "WITH touched AS (UPDATE moderation.events SET state = 'decided', waiting_since = NULL, claimed_by = '',"
    " claim_expires_at = NULL, decision = %(decision)s, decided_by = %(actor)s, decided_at = %(now)s,"
    " comment = %(comment)s, decided_category = %(category)s,"
    # Given back, or not held any more but refused.
    " unpublished = (%(decision)s = 'overturn' AND action IN ('hold', 'block') AND text IS NOT NULL"
    " AND text_expires_at > %(now)s) OR (%(decision)s = 'uphold' AND action = 'hold')"
    " WHERE " + _MINE + " RETURNING " + WITH_TEXT + ")" + NOTED
)

APPEAL: LiteralString = (
    "WITH touched AS (UPDATE moderation.events SET appealed = true, appeal = %(appeal)s, appealed_at = %(now)s,"
    " state = 'pending', waiting_since = coalesce(waiting_since, %(now)s), decision = '', decided_by = '',"
    " decided_at = NULL, comment = '', decided_category = ''"
    " WHERE id = %(id)s::UUID AND user_id = %(actor)s AND NOT appealed AND decision <> 'overturn'"
    " RETURNING " + WITHOUT_TEXT + ")" + NOTED
)
"""Who appeals has not seen the text, or not all of it."""

AUDIT: LiteralString = (
    "SELECT happened_at, actor, what FROM moderation.audit WHERE event_id = %(id)s::UUID ORDER BY happened_at, id"
)

EXPORT: LiteralString = (
    "WITH touched AS (SELECT id, decided_at, direction, category, decided_category, text, decision"
    " FROM moderation.events WHERE state = 'decided' AND text IS NOT NULL AND text_expires_at > %(now)s"
    " AND decided_at <= %(until)s AND (decided_at, id) > (%(after_time)s, %(after_id)s::UUID)"
    " ORDER BY decided_at, id LIMIT %(limit)s)" + NOTED + " ORDER BY decided_at, id"
)

UNPUBLISHED: LiteralString = (
    "SELECT id, generation_id, user_id, direction, category, policy_version, decision, text FROM moderation.events"
    " WHERE unpublished AND (decision = 'uphold' OR text IS NOT NULL) ORDER BY decided_at LIMIT %(limit)s"
)

PUBLISHED: LiteralString = "UPDATE moderation.events SET unpublished = false WHERE id = %(id)s::UUID"

FORGET: LiteralString = (
    "UPDATE moderation.events SET text = NULL WHERE id IN (SELECT id FROM moderation.events"
    " WHERE text IS NOT NULL AND text_expires_at <= %(now)s AND NOT unpublished LIMIT %(limit)s) RETURNING id"
)

DELETE_OLD: LiteralString = (
    "DELETE FROM moderation.events WHERE id IN (SELECT id FROM moderation.events WHERE created_at < %(before)s"
    " ORDER BY created_at LIMIT %(limit)s) RETURNING id"
)

DELETE_OLD_LISTS: LiteralString = (
    "DELETE FROM moderation.audit WHERE id IN (SELECT id FROM moderation.audit WHERE event_id IS NULL"
    " AND happened_at < %(before)s LIMIT %(limit)s) RETURNING id"
)

DELETE_OF_USER: LiteralString = (
    "DELETE FROM moderation.events WHERE id IN (SELECT id FROM moderation.events WHERE user_id = %(user)s"
    " LIMIT %(limit)s) RETURNING id"
)

QUEUE: LiteralString = "SELECT count(*)::INT8, min(waiting_since) FROM moderation.events WHERE state = 'pending'"
