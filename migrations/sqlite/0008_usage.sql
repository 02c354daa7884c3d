-- What users used, by quarter of an hour: sums of their entries, which can be worked out again at any time.

-- A quarter is a number of 900 seconds since 1970. It lies within one day in every time zone of today.
CREATE TABLE usage_sums (
    user_id         TEXT NOT NULL CHECK (length(user_id) BETWEEN 1 AND 128),
    quarter         INTEGER NOT NULL,
    model_id        TEXT NOT NULL CHECK (length(model_id) BETWEEN 1 AND 128),
    requests        INTEGER NOT NULL CHECK (requests >= 0),
    input_tokens    INTEGER NOT NULL CHECK (input_tokens >= 0),
    output_tokens   INTEGER NOT NULL CHECK (output_tokens >= 0),
    total_tokens    INTEGER NOT NULL CHECK (total_tokens >= 0),
    reversed_tokens INTEGER NOT NULL CHECK (reversed_tokens >= 0),
    -- Millionths of a credit: cost_high times 2^32, and cost_low.
    cost_high       INTEGER NOT NULL CHECK (cost_high >= 0),
    cost_low        INTEGER NOT NULL CHECK (cost_low BETWEEN 0 AND 4294967295),
    -- Those of total_tokens that don't tell their price, and are in no cost.
    unpriced_tokens INTEGER NOT NULL CHECK (unpriced_tokens >= 0),
    PRIMARY KEY (user_id, quarter, model_id)
) STRICT, WITHOUT ROWID;

-- The sums hold a user's entries up to this id, and no other.
CREATE TABLE usage_state (
    user_id      TEXT NOT NULL PRIMARY KEY CHECK (length(user_id) BETWEEN 1 AND 128),
    summed_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
