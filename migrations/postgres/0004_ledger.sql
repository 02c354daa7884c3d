-- Entries that take back, give and put right; what each entry has to tell; and the names of purchases.

-- In one statement, so that the rows are read once; they are not written.
ALTER TABLE transactions
    -- How much of credits_delta was given, not bought.
    ADD COLUMN bonus_delta      BIGINT NOT NULL DEFAULT 0,
    -- What was used beyond what could be taken.
    ADD COLUMN shortfall_tokens BIGINT,
    -- The entry that is taken back: a purchase, a consumption, a refund. No reference: a reset would look
    -- for those to every row that it deletes.
    ADD COLUMN reverses         BIGINT,
    -- The allocation whose tokens go back.
    ADD COLUMN allocation_id    BIGINT,
    -- The hold that a consumption settles.
    ADD COLUMN hold_id          TEXT COLLATE "C" CHECK (length(hold_id) BETWEEN 1 AND 128),
    ADD COLUMN reason           TEXT CHECK (length(reason) BETWEEN 1 AND 200),
    -- Who made it; NULL is the user.
    ADD COLUMN actor            TEXT CHECK (actor = 'backend' OR actor IN ('operator', 'store')),
    DROP CONSTRAINT transactions_check,
    ADD CONSTRAINT transactions_fields CHECK (
        ((transaction_id IS NULL AND metadata IS NULL) OR type = 'purchase')
        AND ((input_tokens IS NULL AND output_tokens IS NULL AND shortfall_tokens IS NULL
            AND hold_id IS NULL) OR type = 'consumption')
        -- What an allocation or a consumption was made at; old consumptions don't tell.
        AND (price_per_m_token IS NULL OR type IN ('consumption', 'allocation'))
        AND (reverses IS NULL OR type IN ('refund', 'reversal'))
        AND (allocation_id IS NULL OR type IN ('refund', 'return'))
    ),
    -- The amount is tokens of a consumption and its reversal, of an adjustment whichever it changes, else
    -- credits. IS, unlike =, is false for a NULL; a CHECK only fails on false.
    ADD CONSTRAINT transactions_changes CHECK (CASE type
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
    END);

-- The history merges three: those of allocations and of consumptions, and all the rest, which is rare,
-- in one. A query has to say the same condition.
CREATE INDEX transactions_others ON transactions (user_id, id)
    WHERE type <> 'consumption' AND type <> 'allocation';
CREATE INDEX transactions_others_by_model ON transactions (user_id, model_id, id)
    WHERE type <> 'consumption' AND type <> 'allocation' AND model_id IS NOT NULL;

-- What was taken back of an entry, and of an allocation.
CREATE INDEX transactions_reversing ON transactions (reverses) WHERE reverses IS NOT NULL;
CREATE INDEX transactions_of_allocation ON transactions (allocation_id)
    WHERE allocation_id IS NOT NULL;

-- One purchase, one grant, whoever asks: what a purchase is known by, its store's id and its token, all in
-- one set. Up to 64 bytes as it is, longer as sha256: and 64 hexadecimal digits.
CREATE TABLE purchase_names (
    name    TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (octet_length(name) BETWEEN 1 AND 71),
    user_id TEXT COLLATE "C" NOT NULL CHECK (length(user_id) BETWEEN 1 AND 128)
);

DROP INDEX transactions_store_id;

-- Purchases up to this one were made before names were kept: two of them may share one, which is the older
-- one's.
CREATE TABLE old_purchases (
    last_id BIGINT NOT NULL
);

INSERT INTO old_purchases SELECT coalesce(max(id), 0) FROM transactions;

-- Purchases whose names are missing yet: the service, which hashes them the same for both engines, takes
-- them from here before it serves.
CREATE TABLE purchases_to_name (
    id BIGINT NOT NULL PRIMARY KEY
);

INSERT INTO purchases_to_name (id) SELECT id FROM transactions WHERE type = 'purchase' ORDER BY id;

-- Purchases are among the others; an index of their own would be written for each.
DROP INDEX transactions_purchases;
