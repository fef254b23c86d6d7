-- +goose Up

-- What waits, for inventory or for money, is counted where it waits for money: whoever credits the balance sees it.
ALTER TABLE balances ADD waiting bigint NOT NULL DEFAULT 0,
    ADD CONSTRAINT balances_waiting CHECK (waiting >= 0);

ALTER TABLE operations DROP CONSTRAINT operations_operation_check, DROP CONSTRAINT operations_reason,
    ADD CONSTRAINT operations_operation_check CHECK (operation IN (
        'create_account', 'deposit', 'withdraw', 'transfer', 'hold', 'capture', 'release', 'payment', 'refund')),
    ADD CONSTRAINT operations_reason CHECK (
        CASE status WHEN 'error' THEN reason <> '' WHEN 'success' THEN reason = '' ELSE true END),
    ADD CONSTRAINT operations_settled CHECK ((status = 'created') = (settled_at IS NULL));

ALTER TABLE holds ADD order_id uuid; -- whose payment it is of, if it is one's

ALTER TABLE payments ADD previous text NOT NULL DEFAULT '', -- the status before this one
    -- The state machine.
    ADD CONSTRAINT payments_transition CHECK ((previous, status) IN (
        ('', 'created'), ('', 'authorized'), ('', 'succeeded'), ('', 'failed'), ('', 'cancelled'),
        ('created', 'created'), ('created', 'authorized'), ('created', 'succeeded'), ('created', 'failed'), ('created', 'cancelled'),
        ('authorized', 'succeeded'), ('authorized', 'failed'), ('authorized', 'cancelled'),
        ('succeeded', 'refunded'), ('succeeded', 'cancelled'),
        ('refunded', 'refunded'), ('refunded', 'cancelled')));

-- Requests that were accepted and cannot take effect yet; their operations are created. What waits for money is in the
-- queue of its balance, in the order of seq.
CREATE TABLE waits (
    id          uuid        NOT NULL, -- of the operation
    lane        smallint    NOT NULL,
    account_id  uuid        NOT NULL,
    currency    text        NOT NULL,
    what        text        NOT NULL CHECK (what IN ('waiting_for_inventory', 'waiting_for_funds')),
    seq         bigint      NOT NULL, -- the arrival number of what made it wait
    expires_at  timestamptz,          -- null: it waits behind another one and has no deadline of its own
    -- The request, as it was in the inbox.
    kind        text        NOT NULL,
    arrival     bigint      NOT NULL,
    payload     text        NOT NULL,
    fingerprint uuid,
    traceparent text        NOT NULL,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (id, lane)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
-- The lane, which every look at a queue names, is in it so that the index alone has the order.
CREATE INDEX waits_queue ON waits (account_id, currency, lane, seq) WHERE what = 'waiting_for_funds';
CREATE INDEX waits_expiry ON waits (expires_at) WHERE expires_at IS NOT NULL;

-- +goose Down
DROP TABLE waits;
ALTER TABLE payments DROP previous;
ALTER TABLE holds DROP order_id;
ALTER TABLE operations DROP CONSTRAINT operations_settled, DROP CONSTRAINT operations_reason, DROP CONSTRAINT operations_operation_check,
    ADD CONSTRAINT operations_operation_check CHECK (operation IN (
        'create_account', 'deposit', 'withdraw', 'transfer', 'hold', 'capture', 'release', 'payment')),
    ADD CONSTRAINT operations_reason CHECK ((status = 'error') = (reason <> ''));
ALTER TABLE balances DROP waiting;
