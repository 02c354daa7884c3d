-- Money that goes back: what the stores tell without being asked, and how far their lists were read.

-- JSON: what is refunded of a purchase by its store's word, before it is counted in credits.
ALTER TABLE purchases ADD COLUMN refund TEXT;

-- Messages of the stores, each once. What is worked on is forgotten but for its id.
CREATE TABLE inbox (
    message_id  TEXT NOT NULL PRIMARY KEY CHECK (length(message_id) BETWEEN 1 AND 128),
    store       TEXT NOT NULL CHECK (store IN ('google', 'apple')),
    -- Whether it was pushed, or found in a list.
    way         TEXT NOT NULL CHECK (way IN ('push', 'list')),
    -- JSON: what is told, as it was verified. There may be a token in it.
    content     TEXT,
    received_at TEXT NOT NULL,
    -- When it is to be worked on next; how often that was tried.
    due_at      TEXT,
    attempts    INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    -- What it came to.
    outcome     TEXT CHECK (length(outcome) BETWEEN 1 AND 200),
    CHECK ((due_at IS NULL) = (content IS NULL) AND (due_at IS NULL) = (outcome IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX inbox_due ON inbox (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX inbox_received ON inbox (store, way, received_at);

-- The stores' lists of what was missed, and until when each was read.
CREATE TABLE sweeps (
    name       TEXT NOT NULL PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 64),
    done_until TEXT,
    due_at     TEXT,
    attempts   INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0)
) STRICT, WITHOUT ROWID;

-- Users who let Apple be told how much of a purchase was used, or no longer do.
CREATE TABLE consents (
    user_id           TEXT NOT NULL PRIMARY KEY CHECK (length(user_id) BETWEEN 1 AND 128),
    apple_consumption INTEGER NOT NULL CHECK (apple_consumption IN (0, 1)),
    updated_at        TEXT NOT NULL
) STRICT, WITHOUT ROWID;
