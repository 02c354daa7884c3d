-- How many of a user's credits were given, not bought: bonus = SUM(bonus_delta).
ALTER TABLE credits ADD COLUMN bonus BIGINT NOT NULL DEFAULT 0 CHECK (bonus BETWEEN 0 AND credits);
