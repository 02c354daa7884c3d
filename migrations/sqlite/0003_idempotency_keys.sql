-- The requests that were carried out under an Idempotency-Key, with what they are answered when they
-- come again.
--
-- Keys are random, and an index that takes each as it comes rewrites a page for every one of them. So
-- rows are only appended here; the index gets them later, many at once and in its own order. Until
-- then the service holds their digests in memory.

CREATE TABLE idempotency_keys (
    id          INTEGER PRIMARY KEY,
    -- Of user and key; found by it, then compared.
    digest      INTEGER NOT NULL,
    -- Not a reference: a reset of a user nobody has seen may carry a key too.
    user_id     TEXT NOT NULL CHECK (length(user_id) BETWEEN 1 AND 128),
    key         TEXT NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    -- Tells another request under the same key apart.
    fingerprint INTEGER NOT NULL,
    -- What the operation came to, as JSON.
    outcome     TEXT NOT NULL,
    created_at  TEXT NOT NULL
) STRICT;

CREATE TABLE idempotency_index (
    digest INTEGER NOT NULL,
    id     INTEGER NOT NULL,
    PRIMARY KEY (digest, id)
) STRICT, WITHOUT ROWID;

-- All keys up to this id are in the index.
CREATE TABLE idempotency_indexed (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    id  INTEGER NOT NULL
) STRICT;

INSERT INTO idempotency_indexed VALUES (1, 0);
