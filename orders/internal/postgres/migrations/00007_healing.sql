-- +goose Up

-- Orders whose payment may have been told of by an event that was lost: those that were not final a while after they were placed,
-- and those that are being cancelled. Placing an order writes nothing here, and no index of orders is about its status: that would
-- cost a write at each change. A sweep over seq reads every order once instead, when it has had its time.
CREATE TABLE unsettled (
    order_id uuid        PRIMARY KEY,
    version  bigint      NOT NULL DEFAULT 0, -- the order's when it was last looked at
    asked    integer     NOT NULL DEFAULT 0, -- how often its event was announced again since it had this version
    asked_at timestamptz,
    due_at   timestamptz NOT NULL            -- when to look at it next
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX unsettled_due ON unsettled (due_at);

-- How far the sweep has come. Whoever has locked this row does a round; the others leave it to him.
CREATE TABLE sweep (
    one    boolean     PRIMARY KEY DEFAULT true CHECK (one),
    seq    bigint      NOT NULL, -- of the last order that was looked at
    at     timestamptz NOT NULL  -- of the last round
);
INSERT INTO sweep (seq, at) VALUES (0, '-infinity');

-- Where the end of the orders was at a time. The sweep may go so far once the orders up to there have had their time, and every
-- transaction that was writing orders then has ended: one of them may have stored an order with a lower seq.
CREATE TABLE sweep_marks (
    seq     bigint      PRIMARY KEY,
    writers text[]      NOT NULL, -- those transactions, as pg_locks names them
    at      timestamptz NOT NULL
);

-- +goose StatementBegin
DO $$
BEGIN
    EXECUTE format('REVOKE INSERT, DELETE ON sweep FROM %I', current_setting('altyn.service_role'));
END $$;
-- +goose StatementEnd

-- +goose Down
DROP TABLE sweep_marks;
DROP TABLE sweep;
DROP TABLE unsettled;
