-- What moderation did, and what people made of it. One text for PostgreSQL and CockroachDB.
CREATE TABLE IF NOT EXISTS moderation.events (
    id UUID PRIMARY KEY,
    created_at TIMESTAMPTZ NOT NULL,
    generation_id TEXT NOT NULL,
    conversation_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    tier TEXT NOT NULL,
    direction TEXT NOT NULL,
    action TEXT NOT NULL,
    category TEXT NOT NULL,
    findings JSONB NOT NULL,
    text_sha256 TEXT NOT NULL,
    text_length INT8 NOT NULL,
    -- NULL where the policy does not let it be kept, or its time is over.
    text TEXT,
    text_expires_at TIMESTAMPTZ NOT NULL,
    policy_version TEXT NOT NULL,
    late BOOL NOT NULL,
    -- closed, pending or decided. One that is claimed is pending until it is decided, for a claim ends by itself.
    state TEXT NOT NULL,
    -- Since when it has been in the queue; NULL when it is not.
    waiting_since TIMESTAMPTZ,
    claimed_by TEXT NOT NULL DEFAULT '',
    claim_expires_at TIMESTAMPTZ,
    decision TEXT NOT NULL DEFAULT '',
    decided_by TEXT NOT NULL DEFAULT '',
    decided_at TIMESTAMPTZ,
    comment TEXT NOT NULL DEFAULT '',
    -- What the reviewer says it really is; empty for the category that was found.
    decided_category TEXT NOT NULL DEFAULT '',
    appealed BOOL NOT NULL DEFAULT false,
    appeal TEXT NOT NULL DEFAULT '',
    appealed_at TIMESTAMPTZ,
    -- Whether the decision gives a text back, and nobody has been told yet.
    unpublished BOOL NOT NULL DEFAULT false
)
-- step
CREATE INDEX IF NOT EXISTS events_by_time ON moderation.events (created_at DESC, id DESC)
-- step
CREATE INDEX IF NOT EXISTS events_by_user ON moderation.events (user_id, created_at DESC, id DESC)
-- step
CREATE INDEX IF NOT EXISTS events_by_generation ON moderation.events (generation_id, created_at DESC, id DESC)
-- step
-- The queue: those with an appeal first, then those that wait longest.
CREATE INDEX IF NOT EXISTS events_waiting ON moderation.events (appealed DESC, waiting_since, id)
    WHERE state = 'pending'
-- step
CREATE INDEX IF NOT EXISTS events_appealed ON moderation.events (created_at DESC, id DESC) WHERE appealed
-- step
CREATE INDEX IF NOT EXISTS events_decided ON moderation.events (decided_at, id) WHERE state = 'decided'
-- step
CREATE INDEX IF NOT EXISTS events_unpublished ON moderation.events (decided_at) WHERE unpublished
-- step
CREATE INDEX IF NOT EXISTS events_with_text ON moderation.events (text_expires_at) WHERE text IS NOT NULL
-- step
CREATE TABLE IF NOT EXISTS moderation.audit (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    -- NULL for a list, which is of no event in particular.
    event_id UUID REFERENCES moderation.events (id) ON DELETE CASCADE,
    happened_at TIMESTAMPTZ NOT NULL,
    actor TEXT NOT NULL,
    what TEXT NOT NULL,
    -- The decision, or what was listed.
    detail TEXT NOT NULL DEFAULT ''
)
-- step
CREATE INDEX IF NOT EXISTS audit_by_event ON moderation.audit (event_id, happened_at)
-- step
CREATE INDEX IF NOT EXISTS audit_of_lists ON moderation.audit (happened_at) WHERE event_id IS NULL
