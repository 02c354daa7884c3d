-- Accounts that are being erased: everything of theirs gets the account's new name, some rows at a time.

CREATE TABLE erasures (
    -- The number of the user, who has the new name already.
    account     BIGINT NOT NULL PRIMARY KEY REFERENCES users (id),
    -- The name that goes. Nobody can have it before all is done.
    user_id     TEXT COLLATE "C" NOT NULL UNIQUE CHECK (length(user_id) BETWEEN 1 AND 128),
    -- Holds have been looked through up to this one, which no index finds by their users.
    swept_holds TEXT COLLATE "C" NOT NULL
);

-- Entries get their new names one after the other, and those that have not got it yet belong to nobody who is called so.
-- That they belong to somebody is looked for by the audit.
ALTER TABLE transactions DROP CONSTRAINT transactions_user_id_fkey;

-- But for the name of whoever is erased, and with it what the client sent about a purchase, and a token in place of an id.
CREATE OR REPLACE FUNCTION transactions_never_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF starts_with(new.user_id, 'erased:')
        AND (old.type = 'purchase' OR (old.metadata IS NULL AND new.metadata IS NULL))
        AND (new.transaction_id IS NOT DISTINCT FROM old.transaction_id
            OR (old.transaction_id IS NOT NULL AND starts_with(new.transaction_id, 'sha256:')))
        AND (new.id, new.type, new.amount, new.model_id, new.input_tokens, new.output_tokens,
            new.price_per_m_token, new.credits_delta, new.tokens_delta, new.created_at,
            new.bonus_delta, new.shortfall_tokens, new.reverses, new.allocation_id, new.hold_id,
            new.reason, new.actor)
        IS NOT DISTINCT FROM
            (old.id, old.type, old.amount, old.model_id, old.input_tokens, old.output_tokens,
            old.price_per_m_token, old.credits_delta, old.tokens_delta, old.created_at,
            old.bonus_delta, old.shortfall_tokens, old.reverses, old.allocation_id, old.hold_id,
            old.reason, old.actor)
    THEN
        PERFORM FROM erasures JOIN users ON users.id = erasures.account
        WHERE erasures.user_id = old.user_id AND users.user_id = new.user_id;
        IF FOUND THEN
            RETURN new;
        END IF;
    END IF;
    RAISE EXCEPTION 'transactions are never changed' USING ERRCODE = 'integrity_constraint_violation';
END
$$;
