-- What an operator does: accounts that are frozen, the log of all that was done, and what prices were.

ALTER TABLE credits ADD COLUMN frozen INTEGER NOT NULL DEFAULT 0 CHECK (frozen IN (0, 1));

-- Who did what to whom, when and why. Lines are only ever added.
CREATE TABLE operator_log (
    id         INTEGER PRIMARY KEY,
    created_at TEXT NOT NULL,
    -- The `sub` of the operator's token, or `operator` where it is a static one.
    actor      TEXT NOT NULL CHECK (length(actor) BETWEEN 1 AND 128),
    action     TEXT NOT NULL CHECK (length(action) BETWEEN 1 AND 64),
    -- By number, so that a user who is renamed is renamed here too.
    account    INTEGER REFERENCES users (id),
    -- JSON: what was so, and what is.
    before     TEXT,
    after      TEXT,
    reason     TEXT NOT NULL CHECK (length(reason) BETWEEN 1 AND 200),
    request_id TEXT NOT NULL CHECK (length(request_id) BETWEEN 1 AND 128)
) STRICT;

CREATE INDEX operator_log_of_account ON operator_log (account, id) WHERE account IS NOT NULL;

CREATE TRIGGER operator_log_never_changes BEFORE UPDATE ON operator_log
BEGIN
    SELECT RAISE(ABORT, 'the operator log is never changed');
END;

CREATE TRIGGER operator_log_never_forgets BEFORE DELETE ON operator_log
BEGIN
    SELECT RAISE(ABORT, 'the operator log is never shortened');
END;

-- What each model has cost, whoever changed it. Without price and category it could not be bought any more.
CREATE TABLE price_history (
    id                INTEGER PRIMARY KEY,
    model_id          TEXT NOT NULL CHECK (length(model_id) BETWEEN 1 AND 128),
    price_per_m_token INTEGER CHECK (price_per_m_token BETWEEN 1 AND 9007199254740991),
    category          TEXT CHECK (category IN ('quick', 'think')),
    changed_at        TEXT NOT NULL,
    CHECK ((price_per_m_token IS NULL) = (category IS NULL))
) STRICT;

CREATE INDEX price_history_of_model ON price_history (model_id, id);

INSERT INTO price_history (model_id, price_per_m_token, category, changed_at)
SELECT model_id, price_per_m_token, category, updated_at FROM token_pricing ORDER BY model_id;

CREATE TRIGGER token_pricing_added AFTER INSERT ON token_pricing
BEGIN
    INSERT INTO price_history (model_id, price_per_m_token, category, changed_at)
    VALUES (new.model_id, new.price_per_m_token, new.category, strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'));
END;

CREATE TRIGGER token_pricing_changed AFTER UPDATE ON token_pricing
WHEN old.model_id <> new.model_id OR old.price_per_m_token <> new.price_per_m_token
    OR old.category <> new.category
BEGIN
    INSERT INTO price_history (model_id, changed_at)
    SELECT old.model_id, strftime('%Y-%m-%dT%H:%M:%f000Z', 'now') WHERE old.model_id <> new.model_id;
    INSERT INTO price_history (model_id, price_per_m_token, category, changed_at)
    VALUES (new.model_id, new.price_per_m_token, new.category, strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'));
END;

CREATE TRIGGER token_pricing_removed AFTER DELETE ON token_pricing
BEGIN
    INSERT INTO price_history (model_id, changed_at)
    VALUES (old.model_id, strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'));
END;

-- The queue of those that a person has to look at, and whatever else is asked for by its state.
CREATE INDEX purchases_by_state ON purchases (state, id);
