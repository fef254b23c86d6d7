-- +goose Up

-- What the inventory system said of orders' goods: one row per order, the first that came. A message names no account, so
-- the table has no lane, and is no account's data: the row waits here until the payment of its order tells the account, and
-- joins that account's queue in the inbox then. It is deleted a day after it came.
CREATE TABLE inventory (
    order_id       uuid        PRIMARY KEY,
    idempotent_key uuid        NOT NULL UNIQUE,
    status         text        NOT NULL CHECK (status IN ('COMPLETED', 'FAILED')),
    traceparent    text        NOT NULL DEFAULT '',
    received_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    look_at        timestamptz NOT NULL DEFAULT clock_timestamp(), -- when to look for the payment, while it has not joined
    joined_at      timestamptz
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- What is looked for again and again: the rows that have joined are outside it.
CREATE INDEX inventory_look ON inventory (look_at) WHERE joined_at IS NULL;
CREATE INDEX inventory_age ON inventory (received_at);

-- +goose Down
DROP TABLE inventory;
