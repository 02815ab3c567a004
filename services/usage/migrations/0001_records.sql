CREATE TABLE IF NOT EXISTS usage.records (
    generation_id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL,
    day DATE NOT NULL,
    conversation_id TEXT NOT NULL,
    model TEXT NOT NULL,
    tier TEXT NOT NULL,
    prompt_tokens INT8 NOT NULL,
    completion_tokens INT8 NOT NULL,
    cached_tokens INT8 NOT NULL,
    finish_reason TEXT NOT NULL,
    ended_at TIMESTAMPTZ NOT NULL,
    recorded_at TIMESTAMPTZ NOT NULL DEFAULT now()
)
-- step
CREATE INDEX IF NOT EXISTS records_by_user_and_day ON usage.records (user_id, day)
    INCLUDE (model, prompt_tokens, completion_tokens)
