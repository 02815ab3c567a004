-- Whom the user belongs to, for a server that takes the generation over; empty for nobody.
ALTER TABLE conversation.generations ADD COLUMN IF NOT EXISTS tenant_id TEXT NOT NULL DEFAULT ''
-- step
-- Entries of moderation's late verdicts that took effect last, on the question and on the answer. They are compared as
-- text, so their numbers have leading zeros.
ALTER TABLE conversation.generations ADD COLUMN IF NOT EXISTS late_input TEXT NOT NULL DEFAULT ''
-- step
ALTER TABLE conversation.generations ADD COLUMN IF NOT EXISTS late_output TEXT NOT NULL DEFAULT ''
-- step
-- What such a verdict says of the answer: of an open one, how it must end; of one that had ended, what its readers have.
ALTER TABLE conversation.generations ADD COLUMN IF NOT EXISTS revision JSONB
-- step
-- The generation that a copied message comes from, so that what is taken back there is taken back here.
ALTER TABLE conversation.messages ADD COLUMN IF NOT EXISTS origin_generation_id UUID
-- step
CREATE INDEX IF NOT EXISTS messages_by_origin ON conversation.messages (origin_generation_id)
    WHERE origin_generation_id IS NOT NULL
-- step
-- True of a message of the user that a person has let pass after moderation had refused it.
ALTER TABLE conversation.messages ADD COLUMN IF NOT EXISTS cleared BOOL NOT NULL DEFAULT false
