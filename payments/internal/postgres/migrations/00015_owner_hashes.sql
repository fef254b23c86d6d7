-- +goose Up

-- The owners from before the chain, and that there is none, so that they are sealed with it. What the chain has already stays as
-- it is.
WITH salted AS MATERIALIZED (
    SELECT id, lane, gen_random_uuid() AS salt FROM accounts
    WHERE NOT EXISTS (SELECT FROM chain) AND NOT EXISTS (SELECT FROM chain_unlinked)
)
UPDATE accounts a SET owner_salt = salt,
    owner_hash = encode(substring(sha256(uuid_send(salt) || textsend(owner)), 1, 16), 'hex')::uuid
FROM salted s WHERE a.id = s.id AND a.lane = s.lane;

-- +goose Down
SELECT 1;
