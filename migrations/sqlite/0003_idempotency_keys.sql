-- The requests that were carried out under an Idempotency-Key, with what they are answered when they
-- come again. Without a reference to users: a reset of a user nobody has seen may carry a key too.

CREATE TABLE idempotency_keys (
    id          INTEGER PRIMARY KEY,
    user_id     TEXT NOT NULL CHECK (length(user_id) BETWEEN 1 AND 128),
    key         TEXT NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    -- Tells another request under the same key apart.
    fingerprint INTEGER NOT NULL,
    -- What the operation came to, as JSON.
    outcome     TEXT NOT NULL,
    created_at  TEXT NOT NULL,
    UNIQUE (user_id, key)
) STRICT;
