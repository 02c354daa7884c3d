-- The tables of the billing ledger.
--
-- Amounts are whole numbers of at most 2^53 - 1, the largest integer JavaScript holds exactly.
-- Times are UTC, RFC 3339 with microseconds and Z. STRICT: an overflowing sum would silently become
-- a REAL otherwise.

CREATE TABLE users (
    id         INTEGER PRIMARY KEY,
    user_id    TEXT NOT NULL UNIQUE CHECK (length(user_id) BETWEEN 1 AND 128),
    created_at TEXT NOT NULL
) STRICT;

CREATE TABLE credits (
    user_id    TEXT NOT NULL PRIMARY KEY REFERENCES users (user_id),
    credits    INTEGER NOT NULL CHECK (credits BETWEEN 0 AND 9007199254740991),
    updated_at TEXT NOT NULL
) STRICT;

CREATE TABLE token_balances (
    id               INTEGER PRIMARY KEY,
    user_id          TEXT NOT NULL REFERENCES users (user_id),
    model_id         TEXT NOT NULL CHECK (length(model_id) BETWEEN 1 AND 128),
    allocated_tokens INTEGER NOT NULL CHECK (allocated_tokens BETWEEN 0 AND 9007199254740991),
    updated_at       TEXT NOT NULL,
    UNIQUE (user_id, model_id)
) STRICT;

CREATE TABLE token_pricing (
    model_id          TEXT NOT NULL PRIMARY KEY CHECK (length(model_id) BETWEEN 1 AND 128),
    -- Credits per million tokens.
    price_per_m_token INTEGER NOT NULL CHECK (price_per_m_token BETWEEN 1 AND 9007199254740991),
    category          TEXT NOT NULL CHECK (category IN ('quick', 'think')),
    -- How the price was worked out: yen per dollar, and the margin on top.
    exchange_rate     INTEGER NOT NULL CHECK (exchange_rate >= 0),
    margin_percent    INTEGER NOT NULL CHECK (margin_percent >= 0),
    updated_at        TEXT NOT NULL
) STRICT;

-- Every change of every balance: credits = SUM(credits_delta), allocated_tokens = SUM(tokens_delta).
CREATE TABLE transactions (
    id                INTEGER PRIMARY KEY,
    user_id           TEXT NOT NULL REFERENCES users (user_id),
    type              TEXT NOT NULL,
    amount            INTEGER NOT NULL CHECK (amount BETWEEN 0 AND 9007199254740991),
    model_id          TEXT,
    -- The app store's id of a purchase.
    transaction_id    TEXT,
    -- What the client sent about a purchase, to the letter.
    metadata          TEXT,
    -- What a consumption is the sum of.
    input_tokens      INTEGER,
    output_tokens     INTEGER,
    -- What an allocation was made at.
    price_per_m_token INTEGER,
    credits_delta     INTEGER NOT NULL,
    tokens_delta      INTEGER NOT NULL,
    created_at        TEXT NOT NULL,
    -- IS, unlike =, is false for a NULL; a CHECK only fails on false.
    CHECK (CASE type
        WHEN 'purchase' THEN
            amount >= 1 AND model_id IS NULL AND metadata IS NOT NULL
            AND input_tokens IS NULL AND output_tokens IS NULL AND price_per_m_token IS NULL
            AND credits_delta = amount AND tokens_delta = 0
        WHEN 'allocation' THEN
            amount >= 1 AND model_id IS NOT NULL AND transaction_id IS NULL AND metadata IS NULL
            AND input_tokens IS NULL AND output_tokens IS NULL AND price_per_m_token IS NOT NULL
            AND credits_delta = -amount AND tokens_delta >= 1
        WHEN 'consumption' THEN
            model_id IS NOT NULL AND transaction_id IS NULL AND metadata IS NULL
            AND input_tokens IS NOT NULL AND input_tokens >= 0
            AND output_tokens IS NOT NULL AND output_tokens >= 0
            AND amount = input_tokens + output_tokens AND price_per_m_token IS NULL
            AND credits_delta = 0 AND tokens_delta = -amount
        ELSE false
    END)
) STRICT;

-- One store transaction, one grant, whoever asks.
CREATE UNIQUE INDEX transactions_store_id ON transactions (transaction_id)
    WHERE transaction_id IS NOT NULL;

-- The history, newest first: an index of a table with a rowid ends in the id. A page walks one index
-- per type and merges them, so these serve every combination of filters; the type itself need not be
-- stored in them.
CREATE INDEX transactions_purchases ON transactions (user_id) WHERE type = 'purchase';
CREATE INDEX transactions_allocations ON transactions (user_id) WHERE type = 'allocation';
CREATE INDEX transactions_consumptions ON transactions (user_id) WHERE type = 'consumption';
CREATE INDEX transactions_allocations_by_model ON transactions (user_id, model_id)
    WHERE type = 'allocation';
CREATE INDEX transactions_consumptions_by_model ON transactions (user_id, model_id)
    WHERE type = 'consumption';

CREATE TRIGGER transactions_never_change BEFORE UPDATE ON transactions
BEGIN
    SELECT RAISE(ABORT, 'transactions are never changed');
END;
