-- What the whole comes to, of all users: sums of all entries up to one, which can be worked out again at any time.

-- One row.
CREATE TABLE summary_state (
    -- Rises with every change of these tables.
    version           INTEGER NOT NULL,
    -- The sums hold all entries up to this id, and no other.
    summed_until      INTEGER NOT NULL,
    credits_sold      INTEGER NOT NULL,
    credits_given     INTEGER NOT NULL,
    -- Less those that were returned.
    credits_allocated INTEGER NOT NULL,
    -- Less those that were given back.
    credits_refunded  INTEGER NOT NULL,
    tokens_consumed   INTEGER NOT NULL,
    tokens_shortfall  INTEGER NOT NULL
) STRICT;

INSERT INTO summary_state VALUES (0, 0, 0, 0, 0, 0, 0, 0);

-- A quarter is a number of 900 seconds since 1970. It lies within one day in every time zone of today.
CREATE TABLE summary_quarters (
    quarter      INTEGER NOT NULL PRIMARY KEY,
    credits_sold INTEGER NOT NULL,
    -- JSON, a list: of the users who consumed something in it, how many had last done so as many quarters before as
    -- the place in the list says; first those who had not for a long time.
    arrivals     TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE summary_tokens (
    quarter  INTEGER NOT NULL,
    model_id TEXT NOT NULL CHECK (length(model_id) BETWEEN 1 AND 128),
    tokens   INTEGER NOT NULL,
    PRIMARY KEY (quarter, model_id)
) STRICT, WITHOUT ROWID;

-- Who consumed something in which quarters of a day of UTC, a bit for each: without it an entry that comes late, by
-- a clock that was set back, could not be counted. Users have their numbers, which stay when they are renamed.
CREATE TABLE summary_active (
    day         INTEGER NOT NULL,
    user_number INTEGER NOT NULL,
    morning     INTEGER NOT NULL CHECK (morning BETWEEN 0 AND 281474976710655),
    evening     INTEGER NOT NULL CHECK (evening BETWEEN 0 AND 281474976710655),
    PRIMARY KEY (day, user_number)
) STRICT, WITHOUT ROWID;

-- What refunds could not take, of which there is little.
CREATE INDEX purchases_short ON purchases (shortfall_credits) WHERE shortfall_credits > 0;
