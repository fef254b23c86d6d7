-- +goose Up

-- The orders. Amounts are minor units of their currency. What changes is in no index, and half of each page is left
-- free: orders that were placed together are settled together, and so the new versions of a whole page find room beside
-- the old ones and no index is rewritten (HOT).
CREATE TABLE orders (
    id              uuid        PRIMARY KEY,
    seq             bigint      GENERATED ALWAYS AS IDENTITY, -- newest first is by seq, downwards
    account_id      uuid        NOT NULL,
    amount          bigint      NOT NULL CHECK (amount > 0),
    currency        text        NOT NULL,
    description     text        NOT NULL CHECK (char_length(description) <= 1000),
    reference       text        NOT NULL CHECK (char_length(reference) <= 200),
    capture         text        NOT NULL CHECK (capture IN ('automatic', 'manual')),
    await_inventory boolean     NOT NULL,
    on_insufficient text        NOT NULL CHECK (on_insufficient IN ('reject', 'wait')),
    expires_at      timestamptz,
    status          text        NOT NULL
        CHECK (status IN ('pending', 'authorized', 'paid', 'failed', 'cancelling', 'cancelled')),
    reason          text        NOT NULL DEFAULT '' CHECK (char_length(reason) <= 200),
    captured        bigint      NOT NULL DEFAULT 0 CHECK (captured BETWEEN 0 AND amount),
    refunded        bigint      NOT NULL DEFAULT 0 CHECK (refunded BETWEEN 0 AND captured),
    version         bigint      NOT NULL CHECK (version > 0), -- how many statuses it has had; 1 is being placed
    payment_version bigint      NOT NULL DEFAULT 0 CHECK (payment_version >= 0), -- the newest it has seen of its payment
    fingerprint     uuid        NOT NULL, -- of the request: tells its repetition from another one under the same key
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

CREATE UNIQUE INDEX orders_seq ON orders (seq);
CREATE INDEX orders_account ON orders (account_id, seq);
CREATE INDEX orders_reference ON orders (reference, seq) WHERE reference <> '';

-- Every change of an order's status, append-only. That it was placed is in the order itself. There is no foreign key:
-- whoever writes here holds the order's row locked, and orders are never deleted.
CREATE TABLE order_history (
    order_id    uuid        NOT NULL,
    number      bigint      NOT NULL CHECK (number > 1), -- the order's version after it
    at          timestamptz NOT NULL,
    from_status text        NOT NULL,
    to_status   text        NOT NULL,
    reason      text        NOT NULL,
    event_id    uuid,       -- the event that caused it, if one did
    PRIMARY KEY (order_id, number),
    -- The state machine.
    CONSTRAINT order_history_transition CHECK ((from_status, to_status) IN (
        ('pending', 'authorized'), ('pending', 'paid'), ('pending', 'failed'), ('pending', 'cancelling'),
        ('authorized', 'paid'), ('authorized', 'failed'), ('authorized', 'cancelling'),
        ('paid', 'cancelling'),
        ('cancelling', 'cancelled'), ('cancelling', 'failed')))
);

-- Events that could be read but not be applied, with the place they came from.
CREATE TABLE parked_events (
    topic       text        NOT NULL,
    "partition" integer     NOT NULL,
    "offset"    bigint      NOT NULL,
    key         bytea,
    headers     json        NOT NULL, -- [{"key", "value"}], values in base64
    payload     bytea,
    reason      text        NOT NULL,
    attempts    integer     NOT NULL DEFAULT 1,
    parked_at   timestamptz NOT NULL DEFAULT clock_timestamp(), -- for the first time
    PRIMARY KEY (topic, "partition", "offset")
);

-- The service may read and write every table, but it rewrites no history and deletes no order.
-- +goose StatementBegin
DO $$
BEGIN
    EXECUTE format('REVOKE UPDATE, DELETE ON order_history FROM %I', current_setting('altyn.service_role'));
    EXECUTE format('REVOKE DELETE ON orders FROM %I', current_setting('altyn.service_role'));
END $$;
-- +goose StatementEnd

-- +goose Down
DROP TABLE parked_events;
DROP TABLE order_history;
DROP TABLE orders;
