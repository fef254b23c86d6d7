-- +goose Up

-- The orders, and how each came to where it is. This file is the schema's documentation; docs/schema.md has a picture
-- of it. Amounts are minor units of their currency (table currencies has its digits). There are no foreign keys:
-- whoever writes about an order holds the order's row locked, and orders are never deleted. '' is "none" in a text.


-- Types. What is about one column alone is a domain: its CHECK is planned once per session, that of a table anew by
-- each statement that writes to the table (docs/decisions/checks-are-domains.md).

-- pending: its payment is not decided. authorized: the money is held. paid: it was taken; some may have been returned.
-- failed: nothing was taken. cancelling, cancelled: on the way to its payment, and done. docs/flows.md has the state
-- machine as a diagram.
CREATE DOMAIN order_status AS text CONSTRAINT order_status CHECK (VALUE IN
    ('pending', 'authorized', 'paid', 'failed', 'cancelling', 'cancelled'));
-- automatic takes the money at once, manual holds it until the payment is confirmed.
CREATE DOMAIN capture AS text CONSTRAINT capture CHECK (VALUE IN ('automatic', 'manual'));
-- What happens where the money is not there: the order fails, or it waits for the money.
CREATE DOMAIN on_insufficient AS text CONSTRAINT on_insufficient CHECK (VALUE IN ('reject', 'wait'));
-- A code, or what a client said.
CREATE DOMAIN reason AS text CONSTRAINT reason CHECK (char_length(VALUE) <= 200);
CREATE DOMAIN description AS text CONSTRAINT description CHECK (char_length(VALUE) <= 1000);
CREATE DOMAIN positive AS bigint CONSTRAINT positive CHECK (VALUE > 0);


-- Orders

-- Every order, as it is now. What changes is in no index, and half of each page is left free: orders that were placed
-- together are settled together, and so the new versions of a whole page find room beside the old ones and no index is
-- written (HOT).
CREATE TABLE orders (
    id              uuid            PRIMARY KEY, -- derived from the client's key, where it gave one
    seq             bigint          GENERATED ALWAYS AS IDENTITY, -- lists are by seq, downwards
    account_id      uuid            NOT NULL, -- who pays
    amount          positive        NOT NULL,
    currency        text            NOT NULL,
    description     description     NOT NULL,
    reference       text            NOT NULL CHECK (char_length(reference) <= 200), -- the client's own name for it
    capture         capture         NOT NULL,
    await_inventory boolean         NOT NULL, -- whether the payment waits for word that the goods are there
    on_insufficient on_insufficient NOT NULL,
    expires_at      timestamptz,              -- until when it must be paid for; NULL is the usual time
    status          order_status    NOT NULL,
    reason          reason          NOT NULL DEFAULT '', -- a code: what it waits for, or why it failed or is cancelled
    captured        bigint          NOT NULL DEFAULT 0,  -- taken, of amount
    refunded        bigint          NOT NULL DEFAULT 0,  -- returned, of captured
    version         positive        NOT NULL,            -- counts what happened to it; 1 is being placed
    payment_version bigint          NOT NULL DEFAULT 0,  -- the newest it has seen of its payment; older ones are stale
    fingerprint     uuid            NOT NULL, -- of the request: tells its repetition from another one under its key
    created_at      timestamptz     NOT NULL,
    updated_at      timestamptz     NOT NULL,
    note            reason          NOT NULL DEFAULT '', -- what a client said of the last step
    tenant          text            NOT NULL DEFAULT 'default',
    subject         text            NOT NULL DEFAULT '', -- who placed it; '' where nobody is told apart
    owned           boolean         NOT NULL DEFAULT false, -- whether the account must be the subject's: payments looks
    trace_id        uuid,                                -- of the request that placed it
    key             text            NOT NULL DEFAULT '', -- that request's Idempotency-Key
    CONSTRAINT orders_numbers CHECK (
        0 <= refunded AND refunded <= captured AND captured <= amount AND 0 <= payment_version)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

-- Lists of the default tenant, or of an account, and the search for orders nothing is heard of.
CREATE UNIQUE INDEX orders_seq ON orders (seq);
CREATE INDEX orders_account ON orders (account_id, seq);
-- References and subjects are looked for by how they begin, too, which needs the order of bytes (text_pattern_ops).
CREATE INDEX orders_default_references ON orders (reference text_pattern_ops, seq)
    WHERE tenant = 'default' AND reference <> '';
-- A tenant's lists read no row of another one. They are partial, so that they cost nothing where there are no tenants,
-- and by -seq: the indexes by seq cannot answer these lists, so no plan goes through them for a few of their rows.
CREATE INDEX orders_tenant ON orders (tenant, (-seq)) WHERE tenant <> 'default';
CREATE INDEX orders_tenant_account ON orders (tenant, account_id, (-seq)) WHERE tenant <> 'default';
CREATE INDEX orders_tenant_references ON orders (tenant, reference text_pattern_ops, (-seq))
    WHERE tenant <> 'default' AND reference <> '';
-- The lists of those who see only what they have placed.
CREATE INDEX orders_subjects ON orders (tenant, subject text_pattern_ops, (-seq)) WHERE subject <> '';

-- Every change of an order, append-only. That it was placed is in the order itself. What happened to a payment is a
-- line here also where it leaves the order's status as it was.
CREATE TABLE order_history (
    order_id     uuid         NOT NULL,
    number       bigint       NOT NULL CHECK (number > 1), -- the order's version after it
    at           timestamptz  NOT NULL,
    from_status  order_status NOT NULL,
    to_status    order_status NOT NULL,
    reason       text         NOT NULL,
    event_id     uuid,        -- the event that caused it, or that it caused
    note         text         NOT NULL DEFAULT '',
    published_at timestamptz, -- when the broker got the event that caused it; NULL where that is not known
    PRIMARY KEY (order_id, number),
    -- The state machine, as one text: each pair as a row of its own is many times as much to read for each statement.
    -- After a restoration of payments an order may take any step.
    CONSTRAINT order_history_transition CHECK (reason = 'restored'
        OR position(' ' || from_status || '>' || to_status || ' ' IN
        ' pending>pending pending>authorized pending>paid pending>failed pending>cancelling'
        ' authorized>paid authorized>failed authorized>cancelling'
        ' paid>paid paid>cancelling'
        ' cancelling>cancelling cancelling>cancelled cancelling>failed ') > 0)
);
-- By which the audit finds what has changed. The history is only added to, so the index is a few pages and costs an
-- insert next to nothing.
CREATE INDEX order_history_at ON order_history USING brin (at) WITH (autosummarize = on);

-- The request that began an order's cancellation: an order has one at most.
CREATE TABLE cancellations (
    order_id    uuid        PRIMARY KEY,
    request     uuid,                 -- derived from the client's Idempotency-Key, if it gave one
    fingerprint uuid        NOT NULL, -- of the request: tells its repetition from another one under the same key
    reason      text        NOT NULL CHECK (char_length(reason) <= 200), -- the client's words
    at          timestamptz NOT NULL,
    -- Who asked, '' where nobody is told apart, and with which Idempotency-Key. Whoever owns the table can erase both.
    subject     text        NOT NULL DEFAULT '',
    key         text        NOT NULL DEFAULT ''
);


-- Healing: an order of which nothing is heard is announced again, so that no event that was lost leaves it standing.

-- Orders whose payment may have been told of by an event that was lost: those that were not final a while after they
-- were placed, and those that are being cancelled. Placing an order writes nothing here, and no index of orders is
-- about its status: that would cost a write at each change. A sweep over seq reads every order once instead, when it
-- has had its time.
CREATE TABLE unsettled (
    order_id uuid        PRIMARY KEY,
    version  bigint      NOT NULL DEFAULT 0, -- the order's when it was last looked at
    asked    integer     NOT NULL DEFAULT 0, -- how often its event was announced again since it had this version
    asked_at timestamptz,
    due_at   timestamptz NOT NULL            -- when to look at it next
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX unsettled_due ON unsettled (due_at);

-- How far the sweep has come, in one row. Whoever has locked it does a round; the others leave it to him.
CREATE TABLE sweep (
    one boolean     PRIMARY KEY DEFAULT true CHECK (one),
    seq bigint      NOT NULL, -- of the last order that was looked at
    at  timestamptz NOT NULL  -- of the last round
);

-- Where the end of the orders was at a time. The sweep may go so far once the orders up to there have had their time,
-- and every transaction that was writing orders then has ended: one of them may have stored an order with a lower seq.
CREATE TABLE sweep_marks (
    seq     bigint      PRIMARY KEY,
    writers text[]      NOT NULL, -- those transactions, as pg_locks names them
    at      timestamptz NOT NULL
);


-- Events of payments that could be read but not be applied. Where an event came from is its key, so that one that is
-- delivered and parked again is the same; by its id operators redrive or discard it.
CREATE TABLE parked_events (
    topic       text        NOT NULL,
    "partition" integer     NOT NULL,
    "offset"    bigint      NOT NULL,
    key         bytea,
    headers     json        NOT NULL, -- [{"key", "value"}], values in base64
    payload     bytea,
    reason      text        NOT NULL, -- the last attempt's error
    attempts    integer     NOT NULL DEFAULT 1,
    parked_at   timestamptz NOT NULL DEFAULT clock_timestamp(), -- for the first time
    id          uuid        NOT NULL DEFAULT gen_random_uuid(),
    PRIMARY KEY (topic, "partition", "offset")
);
CREATE UNIQUE INDEX parked_events_id ON parked_events (id);


-- Rights. The service's role can do everything but DDL where nothing else is said here (docs/decisions/two-roles.md):
-- it rewrites no history, deletes no order, and changes of an order the columns of its state alone.
-- +goose StatementBegin
DO $$
DECLARE
    service text := current_setting('altyn.service_role');
BEGIN
    EXECUTE format('REVOKE UPDATE, DELETE ON orders, order_history, cancellations FROM %I', service);
    EXECUTE format('GRANT UPDATE (status, reason, note, captured, refunded, version, payment_version, updated_at)
        ON orders TO %I', service);
    EXECUTE format('REVOKE INSERT, DELETE ON sweep FROM %I', service);
END
$$;
-- +goose StatementEnd


-- Statistics. While a table is young it is analyzed every few seconds. ANALYZE reads 300 rows for each unit of the
-- largest target, thirty thousand by default: all of a young table. Columns by which rows are found have a target of
-- 10, which tells as much about keys that are spread evenly; of the other ones statistics would be of no use.
ALTER TABLE orders
    ALTER id SET STATISTICS 10, ALTER seq SET STATISTICS 10, ALTER account_id SET STATISTICS 10,
    ALTER reference SET STATISTICS 10, ALTER status SET STATISTICS 10, ALTER created_at SET STATISTICS 10,
    ALTER tenant SET STATISTICS 10, ALTER subject SET STATISTICS 10,
    ALTER amount SET STATISTICS 0, ALTER currency SET STATISTICS 0, ALTER description SET STATISTICS 0,
    ALTER capture SET STATISTICS 0, ALTER await_inventory SET STATISTICS 0, ALTER on_insufficient SET STATISTICS 0,
    ALTER expires_at SET STATISTICS 0, ALTER reason SET STATISTICS 0, ALTER captured SET STATISTICS 0,
    ALTER refunded SET STATISTICS 0, ALTER version SET STATISTICS 0, ALTER payment_version SET STATISTICS 0,
    ALTER fingerprint SET STATISTICS 0, ALTER updated_at SET STATISTICS 0, ALTER note SET STATISTICS 0,
    ALTER owned SET STATISTICS 0, ALTER trace_id SET STATISTICS 0, ALTER key SET STATISTICS 0;
ALTER TABLE order_history
    ALTER order_id SET STATISTICS 10, ALTER number SET STATISTICS 10,
    ALTER at SET STATISTICS 0, ALTER from_status SET STATISTICS 0, ALTER to_status SET STATISTICS 0,
    ALTER reason SET STATISTICS 0, ALTER event_id SET STATISTICS 0, ALTER note SET STATISTICS 0,
    ALTER published_at SET STATISTICS 0;
ALTER TABLE cancellations
    ALTER subject SET STATISTICS 0, ALTER key SET STATISTICS 0;


-- The sweep begins before the first order.
INSERT INTO sweep (seq, at) VALUES (0, '-infinity');

-- +goose Down
DROP TABLE parked_events;
DROP TABLE sweep_marks;
DROP TABLE sweep;
DROP TABLE unsettled;
DROP TABLE cancellations;
DROP TABLE order_history;
DROP TABLE orders;
DROP DOMAIN positive;
DROP DOMAIN description;
DROP DOMAIN reason;
DROP DOMAIN on_insufficient;
DROP DOMAIN capture;
DROP DOMAIN order_status;
