-- Accounts that are being erased: everything of theirs gets the account's new name, some rows at a time.

CREATE TABLE erasures (
    -- The number of the user, who has the new name already.
    account     INTEGER NOT NULL PRIMARY KEY REFERENCES users (id),
    -- The name that goes. Nobody can have it before all is done.
    user_id     TEXT NOT NULL UNIQUE CHECK (length(user_id) BETWEEN 1 AND 128),
    -- Holds have been looked through up to this one, which no index finds by their users.
    swept_holds TEXT NOT NULL,
    -- And idempotency keys.
    swept_keys  INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- Entries get their new names one after the other, and those that have not got it yet belong to nobody who is called so.
-- That they belong to somebody is looked for by the audit. The reference goes as the checks of 0004 came: as text.
PRAGMA writable_schema = ON;

UPDATE sqlite_schema
SET sql = replace(sql, 'user_id           TEXT NOT NULL REFERENCES users (user_id),',
    'user_id           TEXT NOT NULL,')
WHERE type = 'table' AND name = 'transactions';

PRAGMA writable_schema = RESET;

DROP TRIGGER transactions_never_change;

-- But for the name of whoever is erased, and with it what the client sent about a purchase, and a token in place of an id.
CREATE TRIGGER transactions_never_change BEFORE UPDATE ON transactions
WHEN NOT (
    substr(new.user_id, 1, 7) IS 'erased:'
    AND new.user_id IS (
        SELECT users.user_id FROM erasures JOIN users ON users.id = erasures.account
        WHERE erasures.user_id = old.user_id)
    AND (new.metadata IS old.metadata OR old.type IS 'purchase')
    AND (new.transaction_id IS old.transaction_id
        OR (old.transaction_id IS NOT NULL AND substr(new.transaction_id, 1, 7) IS 'sha256:'))
    AND new.id IS old.id AND new.type IS old.type AND new.amount IS old.amount
    AND new.model_id IS old.model_id AND new.input_tokens IS old.input_tokens
    AND new.output_tokens IS old.output_tokens
    AND new.price_per_m_token IS old.price_per_m_token AND new.credits_delta IS old.credits_delta
    AND new.tokens_delta IS old.tokens_delta AND new.created_at IS old.created_at
    AND new.bonus_delta IS old.bonus_delta AND new.shortfall_tokens IS old.shortfall_tokens
    AND new.reverses IS old.reverses AND new.allocation_id IS old.allocation_id
    AND new.hold_id IS old.hold_id AND new.reason IS old.reason AND new.actor IS old.actor
)
BEGIN
    SELECT RAISE(ABORT, 'transactions are never changed');
END;
