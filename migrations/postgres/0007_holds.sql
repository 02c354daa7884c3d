-- Tokens that are put aside for chats whose length is not known yet, and what became of them.
CREATE TABLE holds (
    -- A UUID of version 7: later ones are higher.
    hold_id          TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (length(hold_id) = 36),
    user_id          TEXT COLLATE "C" NOT NULL CHECK (length(user_id) BETWEEN 1 AND 128),
    model_id         TEXT COLLATE "C" NOT NULL CHECK (length(model_id) BETWEEN 1 AND 128),
    held_tokens      BIGINT NOT NULL CHECK (held_tokens >= 1),
    -- What is held counts until it expires.
    status           TEXT NOT NULL CHECK (status IN ('held', 'settled', 'released')),
    created_at       TIMESTAMPTZ NOT NULL,
    expires_at       TIMESTAMPTZ NOT NULL,
    closed_at        TIMESTAMPTZ,
    -- What was used as it was reported, and what of it was taken.
    input_tokens     BIGINT CHECK (input_tokens >= 0),
    output_tokens    BIGINT CHECK (output_tokens >= 0),
    consumed_tokens  BIGINT CHECK (consumed_tokens >= 0),
    -- What became free, and the balance then.
    released_tokens  BIGINT CHECK (released_tokens >= 0),
    remaining_tokens BIGINT CHECK (remaining_tokens >= 0),
    -- The consumption. No reference: a reset would look for it to every row that it deletes.
    transaction_id   BIGINT,
    CHECK (released_tokens <= held_tokens AND consumed_tokens <= input_tokens + output_tokens),
    CHECK (CASE status
        WHEN 'held' THEN
            closed_at IS NULL AND released_tokens IS NULL AND remaining_tokens IS NULL
        ELSE closed_at IS NOT NULL AND released_tokens IS NOT NULL AND remaining_tokens IS NOT NULL
    END),
    CHECK (CASE status
        WHEN 'settled' THEN
            input_tokens IS NOT NULL AND output_tokens IS NOT NULL AND consumed_tokens IS NOT NULL
            AND transaction_id IS NOT NULL
        ELSE
            input_tokens IS NULL AND output_tokens IS NULL AND consumed_tokens IS NULL
            AND transaction_id IS NULL
    END)
);

-- Those of a user that are not closed; in the order in which they expire.
CREATE INDEX holds_open ON holds (user_id, expires_at) WHERE status = 'held';
