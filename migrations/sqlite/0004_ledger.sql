-- Entries that take back, give and put right; what each entry has to tell; and the names of purchases.
--
-- The table of transactions is not rewritten: the columns are added at its end, which its rows need not
-- know of, and what it is checked for is put into the schema as text. Every row there fits it. SQLite
-- describes the way ("Making Other Kinds Of Table Schema Changes"), and adds columns so itself, but reads
-- all rows of a STRICT table for each.

-- Only to have its text read by SQLite before it counts.
CREATE TABLE new_transactions (
    id                INTEGER PRIMARY KEY,
    user_id           TEXT NOT NULL REFERENCES users (user_id),
    type              TEXT NOT NULL,
    -- Tokens of a consumption and its reversal; of an adjustment whichever it changes; else credits.
    amount            INTEGER NOT NULL CHECK (amount BETWEEN 0 AND 9007199254740991),
    model_id          TEXT,
    -- The app store's id of a purchase.
    transaction_id    TEXT,
    -- What the client sent about a purchase, to the letter.
    metadata          TEXT,
    -- What a consumption is the sum of, but for its shortfall.
    input_tokens      INTEGER,
    output_tokens     INTEGER,
    -- What an allocation or a consumption was made at; old consumptions don't tell.
    price_per_m_token INTEGER,
    credits_delta     INTEGER NOT NULL,
    tokens_delta      INTEGER NOT NULL,
    created_at        TEXT NOT NULL,
    -- How much of credits_delta was given, not bought.
    bonus_delta       INTEGER NOT NULL DEFAULT 0,
    -- What was used beyond what could be taken.
    shortfall_tokens  INTEGER,
    -- The entry that is taken back: a purchase, a consumption, a refund. No reference: a reset would look
    -- for those to every row that it deletes.
    reverses          INTEGER,
    -- The allocation whose tokens go back.
    allocation_id     INTEGER,
    -- The hold that a consumption settles.
    hold_id           TEXT CHECK (length(hold_id) BETWEEN 1 AND 128),
    reason            TEXT CHECK (length(reason) BETWEEN 1 AND 200),
    -- Who made it; NULL is the user.
    actor             TEXT CHECK (actor = 'backend' OR actor IN ('operator', 'store')),
    CONSTRAINT transactions_fields CHECK (
        ((transaction_id IS NULL AND metadata IS NULL) OR type = 'purchase')
        AND ((input_tokens IS NULL AND output_tokens IS NULL AND shortfall_tokens IS NULL
            AND hold_id IS NULL) OR type = 'consumption')
        AND (price_per_m_token IS NULL OR type IN ('consumption', 'allocation'))
        AND (reverses IS NULL OR type IN ('refund', 'reversal'))
        AND (allocation_id IS NULL OR type IN ('refund', 'return'))
    ),
    -- IS, unlike =, is false for a NULL; a CHECK only fails on false.
    CONSTRAINT transactions_changes CHECK (CASE type
        WHEN 'consumption' THEN
            model_id IS NOT NULL
            AND input_tokens IS NOT NULL AND input_tokens >= 0
            AND output_tokens IS NOT NULL AND output_tokens >= 0
            AND (shortfall_tokens IS NULL OR (shortfall_tokens >= 1 AND hold_id IS NOT NULL))
            AND amount = input_tokens + output_tokens - coalesce(shortfall_tokens, 0)
            AND (price_per_m_token IS NULL OR price_per_m_token >= 1)
            AND credits_delta = 0 AND bonus_delta = 0 AND tokens_delta = -amount
        WHEN 'purchase' THEN
            amount >= 1 AND model_id IS NULL AND metadata IS NOT NULL
            AND credits_delta = amount AND bonus_delta = 0 AND tokens_delta = 0
        WHEN 'allocation' THEN
            amount >= 1 AND model_id IS NOT NULL AND price_per_m_token IS NOT NULL
            AND credits_delta = -amount AND bonus_delta BETWEEN -amount AND 0 AND tokens_delta >= 1
        -- Takes credits, or tokens at what was paid for them.
        WHEN 'refund' THEN reverses IS NOT NULL AND CASE
            WHEN allocation_id IS NULL THEN
                amount >= 1 AND model_id IS NULL
                AND credits_delta = -amount AND bonus_delta BETWEEN -amount AND 0 AND tokens_delta = 0
            ELSE
                model_id IS NOT NULL
                AND credits_delta = 0 AND bonus_delta = 0 AND tokens_delta <= -1
        END
        -- Gives back credits of a refund, whatever that took; or tokens of a consumption.
        WHEN 'reversal' THEN amount >= 1 AND reverses IS NOT NULL AND CASE
            WHEN model_id IS NULL THEN
                credits_delta = amount AND bonus_delta BETWEEN 0 AND amount AND tokens_delta = 0
            ELSE
                reason IS NOT NULL
                AND credits_delta = 0 AND bonus_delta = 0 AND tokens_delta = amount
        END
        WHEN 'return' THEN
            model_id IS NOT NULL AND allocation_id IS NOT NULL
            AND credits_delta = amount AND bonus_delta BETWEEN 0 AND amount AND tokens_delta <= -1
        WHEN 'grant' THEN
            amount >= 1 AND model_id IS NULL AND reason IS NOT NULL
            AND credits_delta = amount AND bonus_delta = amount AND tokens_delta = 0
        WHEN 'adjustment' THEN amount >= 1 AND reason IS NOT NULL AND CASE
            WHEN model_id IS NULL THEN
                credits_delta IN (amount, -amount) AND tokens_delta = 0
                AND (bonus_delta = 0 OR bonus_delta BETWEEN credits_delta AND 0)
            ELSE
                credits_delta = 0 AND bonus_delta = 0 AND tokens_delta IN (amount, -amount)
        END
        ELSE false
    END)
) STRICT;

-- The text counts from the reset on, for others from the next change of the schema on, which follows. If
-- the table's columns were not those it begins with, it would stay as it is, and the indexes fail.
PRAGMA writable_schema = ON;

UPDATE sqlite_schema
SET sql = (SELECT replace(sql, 'CREATE TABLE new_transactions', 'CREATE TABLE transactions')
    FROM sqlite_schema WHERE type = 'table' AND name = 'new_transactions')
WHERE type = 'table' AND name = 'transactions' AND NOT EXISTS (
    SELECT cid, name, type, "notnull", pk FROM pragma_table_info('transactions')
    EXCEPT SELECT cid, name, type, "notnull", pk FROM pragma_table_info('new_transactions'));

PRAGMA writable_schema = RESET;

DROP TABLE new_transactions;

-- The history merges three: those of allocations and of consumptions, and all the rest, which is rare,
-- in one. A query has to say the same condition.
CREATE INDEX transactions_others ON transactions (user_id)
    WHERE type <> 'consumption' AND type <> 'allocation';
CREATE INDEX transactions_others_by_model ON transactions (user_id, model_id)
    WHERE type <> 'consumption' AND type <> 'allocation' AND model_id IS NOT NULL;

-- What was taken back of an entry, and of an allocation.
CREATE INDEX transactions_reversing ON transactions (reverses) WHERE reverses IS NOT NULL;
CREATE INDEX transactions_of_allocation ON transactions (allocation_id)
    WHERE allocation_id IS NOT NULL;

-- One purchase, one grant, whoever asks: what a purchase is known by, its store's id and its token, all in
-- one set. Up to 64 bytes as it is, longer as sha256: and 64 hexadecimal digits.
CREATE TABLE purchase_names (
    name    TEXT NOT NULL PRIMARY KEY CHECK (length(CAST(name AS BLOB)) BETWEEN 1 AND 71),
    user_id TEXT NOT NULL CHECK (length(user_id) BETWEEN 1 AND 128)
) STRICT, WITHOUT ROWID;

DROP INDEX transactions_store_id;

-- Purchases up to this one were made before names were kept: two of them may share one, which is the older
-- one's.
CREATE TABLE old_purchases (
    last_id INTEGER NOT NULL
) STRICT;

INSERT INTO old_purchases SELECT coalesce(max(id), 0) FROM transactions;

-- Purchases whose names are missing yet: the service, which can hash them, takes them from here before
-- it serves.
CREATE TABLE purchases_to_name (
    id INTEGER PRIMARY KEY
) STRICT;

INSERT INTO purchases_to_name (id)
SELECT id FROM transactions INDEXED BY transactions_purchases WHERE type = 'purchase' ORDER BY id;

-- Purchases are among the others; an index of their own would be written for each.
DROP INDEX transactions_purchases;
