-- Conversations, their messages and their generations. One text for PostgreSQL and CockroachDB.
CREATE TABLE IF NOT EXISTS conversation.conversations (
    id UUID PRIMARY KEY,
    user_id TEXT NOT NULL,
    title TEXT NOT NULL,
    model TEXT NOT NULL,
    system_prompt TEXT NOT NULL,
    -- Sequence of the newest message; each turn adds two.
    last_sequence INT8 NOT NULL DEFAULT 0,
    -- The newest answer: what the next message follows.
    leaf_message_id UUID,
    -- The generation that is being answered, and until when its owner may be silent.
    active_generation_id UUID,
    active_until TIMESTAMPTZ,
    request_id UUID,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
)
-- step
CREATE INDEX IF NOT EXISTS conversations_by_user ON conversation.conversations (user_id, updated_at DESC, id DESC)
-- step
CREATE UNIQUE INDEX IF NOT EXISTS conversations_by_request ON conversation.conversations (user_id, request_id)
-- step
CREATE INDEX IF NOT EXISTS conversations_active ON conversation.conversations (active_generation_id)
    WHERE active_generation_id IS NOT NULL
-- step
CREATE TABLE IF NOT EXISTS conversation.messages (
    conversation_id UUID NOT NULL REFERENCES conversation.conversations (id) ON DELETE CASCADE,
    sequence INT8 NOT NULL,
    id UUID NOT NULL UNIQUE,
    parent_id UUID,
    role TEXT NOT NULL,
    content TEXT NOT NULL,
    status TEXT NOT NULL,
    generation_id UUID NOT NULL,
    model TEXT NOT NULL DEFAULT '',
    finish_reason TEXT NOT NULL DEFAULT '',
    prompt_tokens INT8,
    completion_tokens INT8,
    cached_tokens INT8,
    route JSONB,
    error JSONB,
    created_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (conversation_id, sequence)
)
-- step
CREATE TABLE IF NOT EXISTS conversation.generations (
    id UUID PRIMARY KEY,
    conversation_id UUID NOT NULL REFERENCES conversation.conversations (id) ON DELETE CASCADE,
    user_id TEXT NOT NULL,
    tier TEXT NOT NULL,
    user_message_id UUID NOT NULL,
    message_id UUID NOT NULL,
    request_id UUID,
    -- Hash of what was asked, so that a request_id used for something else is noticed.
    request_hash TEXT NOT NULL,
    status TEXT NOT NULL,
    epoch INT8 NOT NULL DEFAULT 1,
    owner TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    finished_at TIMESTAMPTZ
)
-- step
CREATE UNIQUE INDEX IF NOT EXISTS generations_by_request ON conversation.generations (user_id, request_id)
-- step
CREATE INDEX IF NOT EXISTS generations_by_conversation ON conversation.generations (conversation_id)
-- step
CREATE TABLE IF NOT EXISTS conversation.usage_outbox (
    -- What was used and is not yet known to the Usage service: written with the answer, deleted once settled.
    generation_id UUID PRIMARY KEY,
    user_id TEXT NOT NULL,
    tier TEXT NOT NULL,
    conversation_id TEXT NOT NULL,
    model TEXT NOT NULL,
    prompt_tokens INT8 NOT NULL,
    completion_tokens INT8 NOT NULL,
    cached_tokens INT8 NOT NULL,
    finish_reason TEXT NOT NULL,
    ended_at TIMESTAMPTZ NOT NULL
)
