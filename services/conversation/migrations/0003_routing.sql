-- What a forked conversation shares the beginning of its prompts with: the one that was forked first.
ALTER TABLE conversation.conversations ADD COLUMN IF NOT EXISTS affinity_id UUID
-- step
-- The replica that answered last, and so has the beginning of the next prompt in its cache.
ALTER TABLE conversation.conversations ADD COLUMN IF NOT EXISTS last_replica_id TEXT NOT NULL DEFAULT ''
-- step
-- Where the user's data must stay, for a server that takes the generation over; empty for anywhere.
ALTER TABLE conversation.generations ADD COLUMN IF NOT EXISTS residency TEXT NOT NULL DEFAULT ''
-- step
-- Answers that were given in an arm of an experiment. Those of no conversation have no ids.
CREATE TABLE IF NOT EXISTS conversation.exposures (
    experiment TEXT NOT NULL,
    generation_id UUID NOT NULL,
    arm TEXT NOT NULL,
    user_id TEXT NOT NULL,
    conversation_id UUID,
    message_id UUID,
    status TEXT NOT NULL,
    -- At the replica.
    first_token_ms FLOAT8 NOT NULL,
    -- From the question to the stored answer.
    duration_ms FLOAT8 NOT NULL,
    completion_tokens INT8 NOT NULL,
    -- Billionths of a US dollar; NULL when the model has no prices.
    cost_nano_usd INT8,
    created_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (experiment, generation_id)
)
-- step
CREATE INDEX IF NOT EXISTS exposures_by_user ON conversation.exposures (user_id)
-- step
-- Copies of requests whose answers nobody saw.
CREATE TABLE IF NOT EXISTS conversation.shadow_runs (
    name TEXT NOT NULL,
    generation_id TEXT NOT NULL,
    model TEXT NOT NULL,
    replica_id TEXT NOT NULL,
    finish_reason TEXT NOT NULL,
    error TEXT NOT NULL,
    prompt_tokens INT8 NOT NULL,
    completion_tokens INT8 NOT NULL,
    first_token_ms FLOAT8 NOT NULL,
    duration_ms FLOAT8 NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (name, generation_id)
)
