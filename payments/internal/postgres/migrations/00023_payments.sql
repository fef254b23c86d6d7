-- +goose Up

-- The books of payments: whose money is where, and every change that led there. This file is the schema's
-- documentation; docs/schema.md has a picture of it. What is said here is true of every table:
--
--   * Amounts are minor units of their currency (table currencies has its digits), in a bigint; no float touches money.
--   * A table of an account's data has the account's lane in each unique key: murmur2(account ID) mod 64. So the tables
--     can be distributed by lane, and what belongs to one account stays together.
--   * There are no foreign keys. The settlement alone writes here, with the balances that it touches locked, and the
--     audit looks for what does not fit together.
--   * '' is "none" in a text, 'default' is the tenant of whoever has none.


-- Types. What is about one column alone is a domain: its CHECK is planned once per session, that of a table anew by
-- each statement that writes to the table (docs/decisions/checks-are-domains.md).

-- What an operation does; package ledger has a file for each.
CREATE DOMAIN operation AS text CONSTRAINT operation CHECK (VALUE IN
    ('create_account', 'deposit', 'withdraw', 'transfer', 'hold', 'capture', 'release', 'payment', 'refund',
    'cancel_operation'));
-- created: accepted, and it waits for goods or money. The others are final.
CREATE DOMAIN operation_status AS text CONSTRAINT operation_status CHECK (VALUE IN ('created', 'success', 'error'));
-- created: it waits. authorized: the money is held. succeeded: it was taken, whole or in part. refunded: some of it was
-- returned. failed: nothing was taken. cancelled: whatever was held or taken was given back.
CREATE DOMAIN payment_status AS text CONSTRAINT payment_status CHECK (VALUE IN
    ('created', 'authorized', 'succeeded', 'failed', 'cancelled', 'refunded'));
-- The status before the present one; '' is before the beginning.
CREATE DOMAIN previous_status AS text CONSTRAINT previous_status CHECK (VALUE IN
    ('', 'created', 'authorized', 'succeeded', 'failed', 'cancelled', 'refunded'));
-- automatic takes the money at once, manual holds it until the payment is confirmed.
CREATE DOMAIN capture AS text CONSTRAINT capture CHECK (VALUE IN ('automatic', 'manual'));
CREATE DOMAIN positive AS bigint CONSTRAINT positive CHECK (VALUE > 0);
CREATE DOMAIN not_negative AS bigint CONSTRAINT not_negative CHECK (VALUE >= 0);


-- Accounts

-- The clients' accounts. A row never changes.
CREATE TABLE accounts (
    id         uuid        NOT NULL,
    lane       smallint    NOT NULL CHECK (lane BETWEEN 0 AND 63),
    owner      text        NOT NULL DEFAULT '', -- the subject whose the account is, for the scopes .own
    reference  text        NOT NULL DEFAULT '', -- the client's own name for it
    seq        bigint      GENERATED ALWAYS AS IDENTITY, -- lists are by seq, downwards
    created_at timestamptz NOT NULL,
    tenant     text        NOT NULL DEFAULT 'default',
    -- The chain covers the owner as the first half of sha256(salt || owner): whoever erases the owner erases the salt
    -- too, and the hash tells nothing any more.
    owner_salt uuid,
    owner_hash uuid,
    PRIMARY KEY (id, lane)
);
-- Lists of accounts. Each tenant's lists read no rows of others; the default tenant has indexes of its own, so that
-- those with a tenant in front are empty where there are no tenants. Owners and references are looked for by how they
-- begin, too, which needs the order of bytes (text_pattern_ops).
CREATE INDEX accounts_default ON accounts (seq) WHERE tenant = 'default';
CREATE INDEX accounts_default_owners ON accounts (owner text_pattern_ops, seq) WHERE tenant = 'default' AND owner <> '';
CREATE INDEX accounts_default_references ON accounts (reference text_pattern_ops, seq)
    WHERE tenant = 'default' AND reference <> '';
CREATE INDEX accounts_tenant ON accounts (tenant, seq) WHERE tenant <> 'default';
CREATE INDEX accounts_tenant_owners ON accounts (tenant, owner text_pattern_ops, seq)
    WHERE tenant <> 'default' AND owner <> '';
CREATE INDEX accounts_tenant_references ON accounts (tenant, reference text_pattern_ops, seq)
    WHERE tenant <> 'default' AND reference <> '';

-- What an account has in a currency: actual is free to use, frozen is set aside by holds. A settlement locks the rows
-- that it touches, in one order everywhere, and makes missing ones first, with zeros. The system's accounts have a row
-- per lane, so that none of them is hot: …001 is the world outside, which deposits come from and withdrawals go to;
-- …002 is what was earned. What does not fit into a bigint of theirs is moved to their vaults, whose IDs are
-- 00000000-0000-80….
--
-- These rows change all the time, and nothing that changes is in an index. Half of each page is left free for the new
-- versions (HOT), and vacuum comes early and at full speed.
CREATE TABLE balances (
    account_id uuid         NOT NULL,
    lane       smallint     NOT NULL,
    currency   text         NOT NULL,
    actual     bigint       NOT NULL DEFAULT 0,
    frozen     not_negative NOT NULL DEFAULT 0,
    entries    bigint       NOT NULL DEFAULT 0, -- how many the balance has, and so the number of the last one
    waiting    not_negative NOT NULL DEFAULT 0, -- how many of waits are in its queue: whoever credits it wakes them
    entered_at timestamptz  NOT NULL DEFAULT '-infinity', -- the last entry's time: the next one's is not before it
    tenant     text         NOT NULL DEFAULT 'default', -- its account's, from the first entry on
    PRIMARY KEY (account_id, currency, lane),
    -- A client never owes. Only the system's accounts and their vaults may.
    CONSTRAINT balances_not_negative CHECK (actual >= 0 OR account_id IN
        ('00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-000000000002')
        OR account_id BETWEEN '00000000-0000-8000-0000-000000000000' AND '00000000-0000-80ff-ffff-ffffffffffff')
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);


-- Operations and entries

-- The permanent record of every request that was settled or waits, whatever became of it. Its ID is the request's,
-- which is derived from the client's key: a request that comes again meets its record here, and changes nothing.
CREATE TABLE operations (
    id            uuid             NOT NULL,
    lane          smallint         NOT NULL,
    seq           bigint           NOT NULL, -- the request's arrival number, from inbox; lists are by seq, downwards
    operation     operation        NOT NULL,
    account_id    uuid             NOT NULL, -- whose queue the request was in; a transfer's payer
    to_account_id uuid,                      -- a transfer's payee
    hold_id       uuid,                      -- the hold that it made or ended
    order_id      uuid,                      -- the order whose payment it is a step of
    command_id    uuid,                      -- the client's own, where it came as a command
    currency      text             NOT NULL,
    amount        not_negative     NOT NULL,
    status        operation_status NOT NULL,
    reason        text             NOT NULL DEFAULT '', -- a code: what it waits for, or why it ended in error
    reference     text             NOT NULL DEFAULT '', -- the client's own name for it
    description   text             NOT NULL DEFAULT '',
    fingerprint   uuid,                      -- of the request: tells its repetition from another one under the same key
    created_at    timestamptz      NOT NULL,
    settled_at    timestamptz,
    note          text             NOT NULL DEFAULT '', -- why it was asked for or cancelled, in the client's words
    tenant        text             NOT NULL DEFAULT 'default', -- of who asked for it
    -- Who asked did not reach the account: the record makes the refusal repeatable, and is not in the account's lists.
    stranger      boolean          NOT NULL DEFAULT false,
    -- Who asked, with which Idempotency-Key, and the operation that cancelled it. The chain covers none of the three: a
    -- subject is personal and a key is a client's text, so whoever owns the table can erase them.
    subject       text             NOT NULL DEFAULT '',
    key           text             NOT NULL DEFAULT '',
    cancelled_by  uuid,
    traceparent   text             NOT NULL DEFAULT '', -- the trace in which it began: later ones link to it
    PRIMARY KEY (id, lane),
    -- What was settled is a success, or an error for a reason. What waits may have a reason.
    CONSTRAINT operations_outcome CHECK (
        status = CASE WHEN settled_at IS NULL THEN 'created' WHEN reason = '' THEN 'success' ELSE 'error' END)
);
-- Lists of operations: an account's as its own or as payee, a tenant's, an order's, and those with a reference. No
-- column of theirs ever changes, so a status costs no write to an index. The index on orders leaves out the operation
-- that begins a payment: it has the order's ID.
CREATE INDEX operations_known ON operations (account_id, seq) WHERE NOT stranger;
CREATE INDEX operations_payee_tenant ON operations (to_account_id, tenant, seq) WHERE to_account_id IS NOT NULL;
CREATE INDEX operations_default ON operations (seq) WHERE tenant = 'default';
CREATE INDEX operations_tenant ON operations (tenant, seq) WHERE tenant <> 'default';
CREATE INDEX operations_order ON operations (order_id, seq) WHERE order_id <> id;
CREATE INDEX operations_reference ON operations (tenant, reference text_pattern_ops, seq) WHERE reference <> '';

-- Double entry, append-only: the lines of each balance's statement. Over an operation, amount and frozen together sum
-- to zero per currency; a hold is one entry of −10 and +10. Numbers have no gaps, and times run with them.
CREATE TABLE entries (
    account_id    uuid        NOT NULL,
    lane          smallint    NOT NULL,
    currency      text        NOT NULL,
    number        bigint      NOT NULL CHECK (number > 0), -- within the balance, from 1
    operation_id  uuid        NOT NULL,
    operation     text        NOT NULL, -- what that did, so that a statement needs no join
    amount        bigint      NOT NULL, -- change of the actual balance
    frozen        bigint      NOT NULL, -- change of the frozen balance
    balance_after bigint      NOT NULL, -- actual
    frozen_after  bigint      NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(), -- one for a batch, after its locks
    PRIMARY KEY (account_id, currency, number, lane)
);
-- For explanations and for the audit.
CREATE INDEX entries_operation ON entries (operation_id);

-- Money set aside. Its ID is that of the operation that did it.
CREATE TABLE holds (
    id         uuid        NOT NULL,
    lane       smallint    NOT NULL,
    account_id uuid        NOT NULL,
    currency   text        NOT NULL,
    amount     bigint      NOT NULL CHECK (amount > 0),
    captured   bigint      NOT NULL CHECK (captured BETWEEN 0 AND amount), -- the rest went back to the account
    status     text        NOT NULL CHECK (status IN ('open', 'captured', 'released', 'expired')),
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    order_id   uuid,       -- whose payment it is of, if it is one's: then it ends through the payment only
    PRIMARY KEY (id, lane),
    CONSTRAINT holds_captured CHECK ((status = 'captured') = (captured > 0))
);
-- For the timer, and for the audit, which holds them against their balance. What has ended is in neither.
CREATE INDEX holds_expiry ON holds (expires_at) WHERE status = 'open';
CREATE INDEX holds_open ON holds (account_id, currency) WHERE status = 'open';


-- Payments of orders

-- The payment of an order, as the saga sees it. Each change is a version, which becomes one event on the topic
-- payments.
CREATE TABLE payments (
    order_id   uuid            NOT NULL,
    lane       smallint        NOT NULL,
    account_id uuid            NOT NULL,
    currency   text            NOT NULL,
    amount     positive        NOT NULL,
    capture    capture         NOT NULL,
    status     payment_status  NOT NULL,
    reason     text            NOT NULL DEFAULT '', -- a code: what it waits for, or why it failed
    captured   bigint          NOT NULL, -- taken, of amount
    refunded   bigint          NOT NULL, -- returned, of captured
    version    positive        NOT NULL, -- counts the changes, from 1
    created_at timestamptz     NOT NULL,
    updated_at timestamptz     NOT NULL,
    previous   previous_status NOT NULL DEFAULT '',
    note       text            NOT NULL DEFAULT '', -- what a client said of the last step
    tenant     text            NOT NULL DEFAULT 'default', -- the order's
    PRIMARY KEY (order_id, lane),
    CONSTRAINT payments_amounts CHECK (0 <= refunded AND refunded <= captured AND captured <= amount),
    -- The state machine, as one text: each pair as a row of its own is many times as much to read for each statement.
    CONSTRAINT payments_transition CHECK (position(' ' || previous || '>' || status || ' ' IN
        ' >created >authorized >succeeded >failed >cancelled'
        ' created>created created>authorized created>succeeded created>failed created>cancelled'
        ' authorized>succeeded authorized>failed authorized>cancelled'
        ' succeeded>refunded succeeded>cancelled'
        ' refunded>refunded refunded>cancelled ') > 0)
) WITH (fillfactor = 90);

-- Payments whose refund is told of again. An order that is paid waits for nothing, so orders never asks whether a
-- refund was made of which the broker has lost the event.
CREATE TABLE retellings (
    order_id uuid        NOT NULL,
    lane     smallint    NOT NULL,
    told     smallint    NOT NULL DEFAULT 0, -- how often the refund was told of again
    due_at   timestamptz NOT NULL,           -- when to tell of it next
    PRIMARY KEY (order_id, lane)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX retellings_due ON retellings (due_at);


-- What waits

-- Requests that were accepted and cannot take effect yet; their operations are created. What waits for money is in the
-- queue of its balance, in the order of seq: each takes effect before those behind it.
CREATE TABLE waits (
    id          uuid        NOT NULL, -- of the operation
    lane        smallint    NOT NULL,
    account_id  uuid        NOT NULL,
    currency    text        NOT NULL,
    what        text        NOT NULL CHECK (what IN ('waiting_for_inventory', 'waiting_for_funds')),
    seq         bigint      NOT NULL, -- the arrival number of what made it wait: the goods, or the request itself
    expires_at  timestamptz,          -- NULL: none
    -- The request, as it was in the inbox, to be settled when its turn comes.
    kind        text        NOT NULL,
    arrival     bigint      NOT NULL, -- its arrival number
    payload     text        NOT NULL,
    fingerprint uuid,
    traceparent text        NOT NULL,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (id, lane)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
-- The lane, which every look at a queue names, is in it so that the index alone has the order.
CREATE INDEX waits_queue ON waits (account_id, currency, lane, seq) WHERE what = 'waiting_for_funds';
CREATE INDEX waits_expiry ON waits (expires_at) WHERE expires_at IS NOT NULL;

-- What the inventory system said of orders' goods. A message names no account and may come before its order, so the
-- table has no lane: the row waits here until the payment of its order tells the account, and joins that account's
-- queue in the inbox then. It is deleted a day after it came. Of each tenant the first message about an order counts,
-- and the first one with a key: what one tenant says is not in the way of what another one says.
CREATE TABLE inventory (
    order_id       uuid        NOT NULL,
    idempotent_key uuid        NOT NULL,
    status         text        NOT NULL CHECK (status IN ('COMPLETED', 'FAILED')),
    traceparent    text        NOT NULL DEFAULT '',
    received_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    look_at        timestamptz NOT NULL DEFAULT clock_timestamp(), -- when to look for the payment
    joined_at      timestamptz,
    tenant         text        NOT NULL DEFAULT 'default', -- of who said it; only a payment of this tenant is meant
    PRIMARY KEY (order_id, tenant),
    UNIQUE (idempotent_key, tenant)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
-- What is looked for again and again: the rows that have joined are outside it.
CREATE INDEX inventory_look ON inventory (look_at) WHERE joined_at IS NULL;
CREATE INDEX inventory_age ON inventory (received_at);


-- Evidence

-- What the batches have written into accounts, operations, entries, holds and payments, as hashes: package chain says
-- how. The hash of a link covers its items and the hash of the link before it, so no row can be changed unnoticed
-- without changing all links up to the last head that was published.
CREATE TABLE chain (
    number  bigint      PRIMARY KEY, -- from 1, without gaps
    at      timestamptz NOT NULL,
    sealing bigint      NOT NULL,    -- 0 if batches have written the items, else the number of a `payments seal`
    items   bytea       NOT NULL,
    hash    bytea       NOT NULL
);
-- What a batch has written waits here, since its own transaction, until it becomes a part of a link, about a second
-- later: so batches do not wait for each other. What fits into a page stays there: it is read once and soon.
CREATE TABLE chain_unlinked (
    at    timestamptz NOT NULL, -- that of the batch's entries
    items bytea       NOT NULL,
    lane  smallint    NOT NULL DEFAULT 0 -- of the batch's first operation, so that it is stored where the batch is
) WITH (toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0);
-- The links whose hash was published, on the topic ledger.heads.
CREATE TABLE chain_heads (
    number bigint      PRIMARY KEY,
    at     timestamptz NOT NULL
);
-- Hashes cannot be compressed.
ALTER TABLE chain ALTER items SET STORAGE EXTERNAL;
ALTER TABLE chain_unlinked ALTER items SET STORAGE EXTERNAL;

-- The restorations of this database (docs/restoring.md): each begins an epoch, whose number is in the versions of
-- events, so that what is told afterwards is newer than what was told before and is gone. Numbers are seconds since
-- 1970: one never comes again, whichever of the rows was lost by a restoration itself.
CREATE TABLE epochs (
    number      bigint      PRIMARY KEY CHECK (number > 0),
    began_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    restored_to timestamptz NOT NULL -- the moment whose state the database has got
);


-- Rights. The service's role can do everything but DDL where nothing else is said here (docs/decisions/two-roles.md).

-- What is final stays as it is. The triggers look at the role: those who own the tables may change more, as it takes to
-- erase what clients have written.
-- +goose StatementBegin
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'what is final in % is not changed', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END
$$;
-- +goose StatementEnd
-- +goose StatementBegin
DO $$
DECLARE
    service text := current_setting('altyn.service_role');
BEGIN
    -- History is only added to. What was published and where epochs began is not rewritten either; owners begin epochs.
    EXECUTE format('REVOKE UPDATE, DELETE ON accounts, entries, chain, chain_heads FROM %I', service);
    EXECUTE format('REVOKE UPDATE ON chain_unlinked FROM %I', service);
    EXECUTE format('REVOKE INSERT, UPDATE, DELETE ON epochs FROM %I', service);
    -- Nothing of these is deleted, and of the last three only the columns of their state change.
    EXECUTE format('REVOKE DELETE ON balances, operations, holds, payments FROM %I', service);
    EXECUTE format('REVOKE UPDATE ON operations, holds, payments FROM %I', service);
    EXECUTE format('GRANT UPDATE (status, reason, note, hold_id, settled_at, cancelled_by) ON operations TO %I',
        service);
    EXECUTE format('GRANT UPDATE (status, captured) ON holds TO %I', service);
    EXECUTE format('GRANT UPDATE (status, reason, note, previous, captured, refunded, version, updated_at)
        ON payments TO %I', service);

    -- The conditions are the triggers', so that no function is called for a change that is allowed.
    EXECUTE format($trigger$CREATE TRIGGER final BEFORE UPDATE ON operations FOR EACH ROW
        WHEN (current_user = %L AND OLD.status <> 'created') EXECUTE FUNCTION refuse_change()$trigger$, service);
    EXECUTE format($trigger$CREATE TRIGGER final BEFORE UPDATE ON holds FOR EACH ROW
        WHEN (current_user = %L AND OLD.status <> 'open') EXECUTE FUNCTION refuse_change()$trigger$, service);
    -- A payment's version only grows. After its money was taken it may be returned, in more and more parts.
    EXECUTE format($trigger$CREATE TRIGGER final BEFORE UPDATE ON payments FOR EACH ROW
        WHEN (current_user = %L AND (NEW.version <= OLD.version
            OR OLD.status IN ('failed', 'cancelled')
            OR OLD.status IN ('succeeded', 'refunded') AND (NEW.status NOT IN ('refunded', 'cancelled')
                OR NEW.captured <> OLD.captured OR NEW.refunded < OLD.refunded)))
        EXECUTE FUNCTION refuse_change()$trigger$, service);
END
$$;
-- +goose StatementEnd


-- Statistics. While a table is young it is analyzed every few seconds. ANALYZE reads 300 rows for each unit of the
-- largest target, thirty thousand by default: all of a young table. Columns by which rows are found have a target of
-- 10, which tells as much about keys that are spread evenly; of the other ones statistics would be of no use.
ALTER TABLE accounts
    ALTER owner_salt SET STATISTICS 0, ALTER owner_hash SET STATISTICS 0;
ALTER TABLE balances
    ALTER account_id SET STATISTICS 10, ALTER lane SET STATISTICS 10, ALTER currency SET STATISTICS 10,
    ALTER actual SET STATISTICS 10, ALTER frozen SET STATISTICS 10, ALTER entries SET STATISTICS 10,
    ALTER waiting SET STATISTICS 10, ALTER entered_at SET STATISTICS 0, ALTER tenant SET STATISTICS 0;
ALTER TABLE operations
    ALTER id SET STATISTICS 10, ALTER lane SET STATISTICS 10, ALTER seq SET STATISTICS 10,
    ALTER account_id SET STATISTICS 10, ALTER to_account_id SET STATISTICS 10,
    ALTER operation SET STATISTICS 0, ALTER hold_id SET STATISTICS 0, ALTER order_id SET STATISTICS 0,
    ALTER command_id SET STATISTICS 0, ALTER currency SET STATISTICS 0, ALTER amount SET STATISTICS 0,
    ALTER status SET STATISTICS 0, ALTER reason SET STATISTICS 0, ALTER reference SET STATISTICS 0,
    ALTER description SET STATISTICS 0, ALTER fingerprint SET STATISTICS 0, ALTER created_at SET STATISTICS 0,
    ALTER settled_at SET STATISTICS 0, ALTER note SET STATISTICS 0, ALTER tenant SET STATISTICS 0,
    ALTER stranger SET STATISTICS 0, ALTER subject SET STATISTICS 0, ALTER key SET STATISTICS 0,
    ALTER cancelled_by SET STATISTICS 0, ALTER traceparent SET STATISTICS 0;
ALTER TABLE entries
    ALTER account_id SET STATISTICS 10, ALTER lane SET STATISTICS 10, ALTER currency SET STATISTICS 10,
    ALTER number SET STATISTICS 10, ALTER operation_id SET STATISTICS 10, ALTER created_at SET STATISTICS 10,
    ALTER operation SET STATISTICS 0, ALTER amount SET STATISTICS 0, ALTER frozen SET STATISTICS 0,
    ALTER balance_after SET STATISTICS 0, ALTER frozen_after SET STATISTICS 0;
ALTER TABLE payments
    ALTER order_id SET STATISTICS 10, ALTER lane SET STATISTICS 10,
    ALTER account_id SET STATISTICS 0, ALTER currency SET STATISTICS 0, ALTER amount SET STATISTICS 0,
    ALTER capture SET STATISTICS 0, ALTER status SET STATISTICS 0, ALTER reason SET STATISTICS 0,
    ALTER captured SET STATISTICS 0, ALTER refunded SET STATISTICS 0, ALTER version SET STATISTICS 0,
    ALTER created_at SET STATISTICS 0, ALTER updated_at SET STATISTICS 0, ALTER previous SET STATISTICS 0,
    ALTER note SET STATISTICS 0, ALTER tenant SET STATISTICS 0;
ALTER TABLE chain_unlinked
    ALTER at SET STATISTICS 0, ALTER items SET STATISTICS 0, ALTER lane SET STATISTICS 0;

-- +goose Down
DROP TABLE epochs;
DROP TABLE chain_heads;
DROP TABLE chain_unlinked;
DROP TABLE chain;
DROP TABLE inventory;
DROP TABLE waits;
DROP TABLE retellings;
DROP TABLE payments;
DROP TABLE holds;
DROP TABLE entries;
DROP TABLE operations;
DROP TABLE balances;
DROP TABLE accounts;
DROP FUNCTION refuse_change;
DROP DOMAIN not_negative;
DROP DOMAIN positive;
DROP DOMAIN capture;
DROP DOMAIN previous_status;
DROP DOMAIN payment_status;
DROP DOMAIN operation_status;
DROP DOMAIN operation;
