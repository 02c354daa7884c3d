-- What is sold, and the purchases that the app stores confirm.

-- Credits for one of each product. A change counts from the next grant on. One that is not active is no
-- longer offered; somebody may still have paid for it.
CREATE TABLE products (
    product_id TEXT NOT NULL PRIMARY KEY CHECK (length(product_id) BETWEEN 1 AND 255),
    credits    INTEGER NOT NULL CHECK (credits BETWEEN 1 AND 1000000000),
    active     INTEGER NOT NULL DEFAULT 1 CHECK (active IN (0, 1)),
    updated_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
) STRICT, WITHOUT ROWID;

INSERT INTO products (product_id, credits) VALUES
    ('noteapp.credits.small', 300),
    ('noteapp.credits.regular', 500),
    ('noteapp.credits.large', 1000);

-- A purchase, from the moment somebody brings it, or its store tells of it.
CREATE TABLE purchases (
    id                INTEGER PRIMARY KEY,
    -- The first of its keys.
    key               TEXT NOT NULL UNIQUE CHECK (length(key) BETWEEN 1 AND 128),
    store             TEXT NOT NULL CHECK (store IN ('google', 'apple')),
    state             TEXT NOT NULL CHECK (state IN
        ('received', 'pending', 'granted', 'refused', 'review', 'unclaimed', 'refunded')),
    -- Why it is refused or in review, or was not confirmed the last time.
    reason            TEXT CHECK (length(reason) BETWEEN 1 AND 200),
    -- Whose it is; nobody's while it is unclaimed.
    user_id           TEXT CHECK (length(user_id) BETWEEN 1 AND 128),
    -- What its store is asked with, as long as it has to be asked.
    token             TEXT CHECK (length(token) BETWEEN 1 AND 16384),
    -- What the client sent about it, until it is granted.
    record            TEXT,
    environment       TEXT CHECK (environment IN ('production', 'sandbox')),
    -- The store's own ids.
    store_id          TEXT CHECK (length(store_id) BETWEEN 1 AND 2048),
    original_id       TEXT CHECK (length(original_id) BETWEEN 1 AND 2048),
    -- Of several products all names, with commas between, and of how many things in all.
    product_id        TEXT,
    quantity          INTEGER CHECK (quantity >= 1),
    -- JSON: product, quantity, and the credits that one was granted for.
    items             TEXT,
    credits           INTEGER CHECK (credits BETWEEN 1 AND 9007199254740991),
    price_milliunits  INTEGER,
    currency          TEXT CHECK (length(currency) BETWEEN 1 AND 8),
    -- What the store says, as it was verified.
    verified          TEXT,
    -- The entry that granted it.
    entry_id          INTEGER UNIQUE,
    received_at       TEXT NOT NULL,
    purchased_at      TEXT,
    granted_at        TEXT,
    -- Since when its store has said that it does not know it.
    unknown_since     TEXT,
    -- When its store was told that it was delivered, and that it may be bought again.
    acknowledged_at   TEXT,
    consumed_at       TEXT,
    -- When its store is to be asked or told next; how often that was tried.
    due_at            TEXT,
    attempts          INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    -- What is refunded by now, in credits, by the store's word and by an operator's, and when the store said so.
    refund_store      INTEGER NOT NULL DEFAULT 0 CHECK (refund_store >= 0),
    refund_operator   INTEGER NOT NULL DEFAULT 0 CHECK (refund_operator >= 0),
    refund_told_at    TEXT,
    -- What was taken for it, and what could not be.
    taken_credits     INTEGER NOT NULL DEFAULT 0 CHECK (taken_credits >= 0),
    shortfall_credits INTEGER NOT NULL DEFAULT 0 CHECK (shortfall_credits >= 0),
    updated_at        TEXT NOT NULL,
    CHECK (user_id IS NOT NULL OR state IN ('unclaimed', 'refused', 'refunded')),
    CHECK (state <> 'granted' OR (credits IS NOT NULL AND granted_at IS NOT NULL))
) STRICT;

CREATE INDEX purchases_due ON purchases (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX purchases_waiting ON purchases (user_id) WHERE state IN ('received', 'pending');
CREATE INDEX purchases_states ON purchases (store, state, received_at);
CREATE INDEX purchases_of_user ON purchases (user_id, id);

-- All that a purchase is known by to its store, each once.
CREATE TABLE purchase_keys (
    key         TEXT NOT NULL PRIMARY KEY CHECK (length(key) BETWEEN 1 AND 128),
    purchase_id INTEGER NOT NULL REFERENCES purchases (id)
) STRICT, WITHOUT ROWID;

CREATE INDEX purchase_keys_of_purchase ON purchase_keys (purchase_id);
