-- The same holds under checks that cost less: SQLite makes a table of its own of a list of three for every row, and
-- again when the row changes.
DROP INDEX holds_open;
ALTER TABLE holds RENAME TO old_holds;

CREATE TABLE holds (
    -- A UUID of version 7: later ones are higher.
    hold_id          TEXT NOT NULL PRIMARY KEY CHECK (length(hold_id) = 36),
    user_id          TEXT NOT NULL CHECK (length(user_id) BETWEEN 1 AND 128),
    model_id         TEXT NOT NULL CHECK (length(model_id) BETWEEN 1 AND 128),
    held_tokens      INTEGER NOT NULL CHECK (held_tokens >= 1),
    -- What is held counts until it expires.
    status           TEXT NOT NULL
        CHECK (status = 'held' OR status = 'settled' OR status = 'released'),
    created_at       TEXT NOT NULL,
    expires_at       TEXT NOT NULL,
    closed_at        TEXT,
    -- What was used as it was reported, and what of it was taken.
    input_tokens     INTEGER CHECK (input_tokens >= 0),
    output_tokens    INTEGER CHECK (output_tokens >= 0),
    consumed_tokens  INTEGER CHECK (consumed_tokens >= 0),
    -- What became free, and the balance then.
    released_tokens  INTEGER CHECK (released_tokens >= 0),
    remaining_tokens INTEGER CHECK (remaining_tokens >= 0),
    -- The consumption. No reference: a reset would look for it to every row that it deletes.
    transaction_id   INTEGER,
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
) STRICT, WITHOUT ROWID;

INSERT INTO holds
SELECT hold_id, user_id, model_id, held_tokens, status, created_at, expires_at, closed_at,
    input_tokens, output_tokens, consumed_tokens, released_tokens, remaining_tokens, transaction_id
FROM old_holds;
DROP TABLE old_holds;

-- Those of a user that are not closed; in the order in which they expire.
CREATE INDEX holds_open ON holds (user_id, expires_at) WHERE status = 'held';
