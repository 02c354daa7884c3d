-- What a new database starts with: the user everyone is while nobody has to log in, and the prices.

INSERT INTO users (user_id, created_at) VALUES ('default_user', now());

INSERT INTO credits (user_id, credits, updated_at) VALUES ('default_user', 0, now());

INSERT INTO token_pricing
    (model_id, price_per_m_token, category, exchange_rate, margin_percent, updated_at)
VALUES
    ('gemini-2.5-flash', 255, 'quick', 150, 20, now()),
    ('gemini-2.5-pro', 750, 'think', 150, 20, now()),
    ('gemini-2.0-flash', 75, 'quick', 150, 20, now());
