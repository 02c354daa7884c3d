-- What the whole comes to, of all users: sums of all entries up to one, which can be worked out again at any time.

-- One row.
CREATE TABLE summary_state (
    -- Rises with every change of these tables.
    version           BIGINT NOT NULL,
    -- The sums hold all entries up to this id, and no other.
    summed_until      BIGINT NOT NULL,
    credits_sold      BIGINT NOT NULL,
    credits_given     BIGINT NOT NULL,
    -- Less those that were returned.
    credits_allocated BIGINT NOT NULL,
    -- Less those that were given back.
    credits_refunded  BIGINT NOT NULL,
    tokens_consumed   BIGINT NOT NULL,
    tokens_shortfall  BIGINT NOT NULL
);

INSERT INTO summary_state VALUES (0, 0, 0, 0, 0, 0, 0, 0);

-- A quarter is a number of 900 seconds since 1970. It lies within one day in every time zone of today.
CREATE TABLE summary_quarters (
    quarter      BIGINT NOT NULL PRIMARY KEY,
    credits_sold BIGINT NOT NULL,
    -- JSON, a list: of the users who consumed something in it, how many had last done so as many quarters before as
    -- the place in the list says; first those who had not for a long time.
    arrivals     TEXT NOT NULL
);

CREATE TABLE summary_tokens (
    quarter  BIGINT NOT NULL,
    model_id TEXT COLLATE "C" NOT NULL CHECK (length(model_id) BETWEEN 1 AND 128),
    tokens   BIGINT NOT NULL,
    PRIMARY KEY (quarter, model_id)
);

-- Who consumed something in which quarters of a day of UTC, a bit for each: without it an entry that comes late, by
-- a clock that was set back, could not be counted. Users have their numbers, which stay when they are renamed.
CREATE TABLE summary_active (
    day         BIGINT NOT NULL,
    user_number BIGINT NOT NULL,
    morning     BIGINT NOT NULL CHECK (morning BETWEEN 0 AND 281474976710655),
    evening     BIGINT NOT NULL CHECK (evening BETWEEN 0 AND 281474976710655),
    PRIMARY KEY (day, user_number)
);

-- What refunds could not take, of which there is little.
CREATE INDEX purchases_short ON purchases (shortfall_credits) WHERE shortfall_credits > 0;
