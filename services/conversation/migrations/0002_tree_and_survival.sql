-- Messages as a tree, generations that outlive their server, and what users do with conversations.
ALTER TABLE conversation.conversations ADD COLUMN IF NOT EXISTS pinned BOOL NOT NULL DEFAULT false
-- step
ALTER TABLE conversation.conversations ADD COLUMN IF NOT EXISTS archived BOOL NOT NULL DEFAULT false
-- step
ALTER TABLE conversation.conversations ADD COLUMN IF NOT EXISTS deleted_at TIMESTAMPTZ
-- step
ALTER TABLE conversation.conversations ADD COLUMN IF NOT EXISTS purge_at TIMESTAMPTZ
-- step
ALTER TABLE conversation.conversations ADD COLUMN IF NOT EXISTS source_conversation_id UUID
-- step
-- Where the leaf stands: on which branch and how deep. See `conversation.branches`.
ALTER TABLE conversation.conversations ADD COLUMN IF NOT EXISTS leaf_branch INT8 NOT NULL DEFAULT 0
-- step
ALTER TABLE conversation.conversations ADD COLUMN IF NOT EXISTS leaf_depth INT8 NOT NULL DEFAULT 0
-- step
ALTER TABLE conversation.conversations ADD COLUMN IF NOT EXISTS next_branch INT8 NOT NULL DEFAULT 1
-- step
UPDATE conversation.conversations SET leaf_depth = last_sequence WHERE leaf_depth = 0 AND last_sequence > 0
-- step
-- Each word opens with a sign of its user, so that a search, also for the beginning of a word, meets nobody else's.
-- Words are what stands between the characters of the list, which is the same in search_query.py: the database's own
-- reading of them would depend on its locale. A value that is too large would be an error of the INSERT, so a text
-- counts up to a length, and a word that is longer than any does not count.
ALTER TABLE conversation.conversations ADD COLUMN IF NOT EXISTS search TSVECTOR
    GENERATED ALWAYS AS (regexp_replace(
        substr(md5(user_id), 1, 8) || replace(
            btrim(regexp_replace(lower(left(title, 100000)), E'[\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00a9\u00ab-\u00b1\u00b4\u00b6-\u00b8\u00bb\u00bf\u00d7\u00f7\u037e\u0387\u055a-\u055f\u0589-\u058a\u05be\u05f3-\u05f4\u0609-\u060f\u061b-\u061f\u066a-\u066d\u06d4\u0964-\u0965\u0e4f\u0e5a-\u0e5b\u104a-\u104f\u1361-\u1368\u1400\u1680\u17d4-\u17d6\u1800-\u180a\u2000-\u206f\u20a0-\u20cf\u2190-\u2bff\u2e00-\u2e2e\u2e30-\u2e7f\u3000-\u3004\u3008-\u3020\u3030\u30a0\u30fb\ufe00-\ufe6f\ufeff\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\uffe0-\uffff\U0001f000-\U0001f0ff\U0001f10d-\U0001faff]+', ' ', 'g'), ' '),
            ' ', ' ' || substr(md5(user_id), 1, 8)
        ), '[^ ]{255,}', '', 'g')::TSVECTOR) STORED
-- step
CREATE INDEX IF NOT EXISTS conversations_search ON conversation.conversations USING GIN (search)
-- step
CREATE INDEX IF NOT EXISTS conversations_by_creation
    ON conversation.conversations (user_id, created_at DESC, id DESC)
-- step
CREATE INDEX IF NOT EXISTS conversations_to_purge ON conversation.conversations (purge_at) WHERE purge_at IS NOT NULL
-- step
ALTER TABLE conversation.messages ADD COLUMN IF NOT EXISTS user_id TEXT NOT NULL DEFAULT ''
-- step
UPDATE conversation.messages AS m SET user_id = c.user_id FROM conversation.conversations AS c
    WHERE c.id = m.conversation_id AND m.user_id = ''
-- step
ALTER TABLE conversation.messages ADD COLUMN IF NOT EXISTS branch INT8 NOT NULL DEFAULT 0
-- step
ALTER TABLE conversation.messages ADD COLUMN IF NOT EXISTS depth INT8 NOT NULL DEFAULT 0
-- step
UPDATE conversation.messages SET depth = sequence WHERE depth = 0
-- step
ALTER TABLE conversation.messages ADD COLUMN IF NOT EXISTS search TSVECTOR
    GENERATED ALWAYS AS (regexp_replace(
        substr(md5(user_id), 1, 8) || replace(
            btrim(regexp_replace(lower(left(content, 100000)), E'[\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00a9\u00ab-\u00b1\u00b4\u00b6-\u00b8\u00bb\u00bf\u00d7\u00f7\u037e\u0387\u055a-\u055f\u0589-\u058a\u05be\u05f3-\u05f4\u0609-\u060f\u061b-\u061f\u066a-\u066d\u06d4\u0964-\u0965\u0e4f\u0e5a-\u0e5b\u104a-\u104f\u1361-\u1368\u1400\u1680\u17d4-\u17d6\u1800-\u180a\u2000-\u206f\u20a0-\u20cf\u2190-\u2bff\u2e00-\u2e2e\u2e30-\u2e7f\u3000-\u3004\u3008-\u3020\u3030\u30a0\u30fb\ufe00-\ufe6f\ufeff\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\uffe0-\uffff\U0001f000-\U0001f0ff\U0001f10d-\U0001faff]+', ' ', 'g'), ' '),
            ' ', ' ' || substr(md5(user_id), 1, 8)
        ), '[^ ]{255,}', '', 'g')::TSVECTOR) STORED
-- step
CREATE INDEX IF NOT EXISTS messages_search ON conversation.messages USING GIN (search)
-- step
CREATE INDEX IF NOT EXISTS messages_by_user ON conversation.messages (user_id, created_at DESC, id DESC)
-- step
CREATE UNIQUE INDEX IF NOT EXISTS messages_by_place ON conversation.messages (conversation_id, branch, depth)
-- step
CREATE INDEX IF NOT EXISTS messages_by_parent ON conversation.messages (conversation_id, parent_id)
-- step
CREATE TABLE IF NOT EXISTS conversation.branches (
    conversation_id UUID NOT NULL REFERENCES conversation.conversations (id) ON DELETE CASCADE,
    branch INT8 NOT NULL,
    -- The way from the root: on branch path_branches[i] from depth path_starts[i] to just before path_starts[i + 1].
    -- The last is this branch itself. Branch 0 needs no row: it is its own way, from depth 1.
    path_branches INT8[] NOT NULL,
    path_starts INT8[] NOT NULL,
    PRIMARY KEY (conversation_id, branch)
)
-- step
-- A server that runs generations. It is alive as long as it says so.
CREATE TABLE IF NOT EXISTS conversation.servers (
    -- One life of the server.
    owner TEXT PRIMARY KEY,
    -- The same over its restarts.
    name TEXT NOT NULL,
    -- gRPC target at which the other servers reach it.
    address TEXT NOT NULL,
    alive_until TIMESTAMPTZ NOT NULL
)
-- step
ALTER TABLE conversation.generations ADD COLUMN IF NOT EXISTS requested_model TEXT NOT NULL DEFAULT ''
-- step
ALTER TABLE conversation.generations ADD COLUMN IF NOT EXISTS sampling JSONB
-- step
ALTER TABLE conversation.generations ADD COLUMN IF NOT EXISTS stop_requested BOOL NOT NULL DEFAULT false
-- step
-- True when its log in Redis may lack events that a client has seen; nobody can continue it then.
ALTER TABLE conversation.generations ADD COLUMN IF NOT EXISTS log_gap BOOL NOT NULL DEFAULT false
-- step
-- True once something of it was shown; written with its server's next sign of life.
ALTER TABLE conversation.generations ADD COLUMN IF NOT EXISTS begun BOOL NOT NULL DEFAULT false
-- step
-- Position of the terminal event.
ALTER TABLE conversation.generations ADD COLUMN IF NOT EXISTS last_seq INT8
-- step
CREATE INDEX IF NOT EXISTS generations_open ON conversation.generations (owner) WHERE status = 'open'
-- step
CREATE INDEX IF NOT EXISTS generations_by_user ON conversation.generations (user_id, created_at DESC, id DESC)
-- step
CREATE TABLE IF NOT EXISTS conversation.shares (
    token TEXT PRIMARY KEY,
    conversation_id UUID NOT NULL REFERENCES conversation.conversations (id) ON DELETE CASCADE,
    user_id TEXT NOT NULL,
    -- The last message that can be read.
    message_id UUID NOT NULL,
    title TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL
)
-- step
CREATE INDEX IF NOT EXISTS shares_by_user ON conversation.shares (user_id, created_at DESC, token DESC)
-- step
CREATE INDEX IF NOT EXISTS shares_by_conversation ON conversation.shares (conversation_id)
-- step
CREATE TABLE IF NOT EXISTS conversation.feedback (
    conversation_id UUID NOT NULL REFERENCES conversation.conversations (id) ON DELETE CASCADE,
    message_id UUID NOT NULL,
    rating TEXT NOT NULL,
    reason TEXT NOT NULL,
    comment TEXT NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (conversation_id, message_id)
)
-- step
CREATE TABLE IF NOT EXISTS conversation.user_settings (
    user_id TEXT PRIMARY KEY,
    custom_instructions TEXT NOT NULL,
    default_model TEXT NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
)
-- step
-- Users who asked that all of their data be deleted, until that is done.
CREATE TABLE IF NOT EXISTS conversation.user_deletions (
    user_id TEXT PRIMARY KEY,
    requested_at TIMESTAMPTZ NOT NULL
)
-- step
-- Servers say that they live, and no longer that each of their generations does.
ALTER TABLE conversation.conversations DROP COLUMN IF EXISTS active_until
-- step
DROP INDEX IF EXISTS conversation.conversations_active
