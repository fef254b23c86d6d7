-- +goose Up

-- Every table of an account's data carries the lane of the account in each unique key, so that the tables can be
-- distributed by lane. Amounts are minor units of their currency.

CREATE TABLE accounts (
    id         uuid        NOT NULL,
    lane       smallint    NOT NULL CHECK (lane BETWEEN 0 AND 63),
    owner      text        NOT NULL DEFAULT '',
    reference  text        NOT NULL DEFAULT '',
    seq        bigint      GENERATED ALWAYS AS IDENTITY,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (id, lane)
);
CREATE INDEX accounts_seq ON accounts (seq);
CREATE INDEX accounts_owner ON accounts (owner, seq) WHERE owner <> '';
CREATE INDEX accounts_reference ON accounts (reference, seq) WHERE reference <> '';

-- The system accounts (…001 external, …002 revenue) have a row per lane and are the only ones that may be negative.
CREATE TABLE balances (
    account_id uuid     NOT NULL,
    lane       smallint NOT NULL,
    currency   text     NOT NULL,
    actual     bigint   NOT NULL DEFAULT 0,
    frozen     bigint   NOT NULL DEFAULT 0,
    entries    bigint   NOT NULL DEFAULT 0, -- how many the balance has, and so the number of the last one
    PRIMARY KEY (account_id, currency, lane),
    CONSTRAINT balances_not_negative CHECK (actual >= 0 OR account_id IN
        ('00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-000000000002')),
    CONSTRAINT balances_frozen_not_negative CHECK (frozen >= 0)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- The permanent record of every request that was settled.
CREATE TABLE operations (
    id            uuid        NOT NULL,
    lane          smallint    NOT NULL,
    seq           bigint      NOT NULL, -- the arrival number of the request
    operation     text        NOT NULL CHECK (operation IN (
        'create_account', 'deposit', 'withdraw', 'transfer', 'hold', 'capture', 'release', 'payment')),
    account_id    uuid        NOT NULL,
    to_account_id uuid,
    hold_id       uuid,
    order_id      uuid,
    command_id    uuid, -- the client's own, where it came over the broker
    currency      text        NOT NULL,
    amount        bigint      NOT NULL CHECK (amount >= 0),
    status        text        NOT NULL CHECK (status IN ('created', 'success', 'error')),
    reason        text        NOT NULL DEFAULT '',
    reference     text        NOT NULL DEFAULT '',
    description   text        NOT NULL DEFAULT '',
    fingerprint   uuid,
    created_at    timestamptz NOT NULL,
    settled_at    timestamptz,
    PRIMARY KEY (id, lane),
    CONSTRAINT operations_reason CHECK ((status = 'error') = (reason <> ''))
);
CREATE INDEX operations_account ON operations (account_id, seq);
CREATE INDEX operations_payee ON operations (to_account_id, seq) WHERE to_account_id IS NOT NULL;

-- Append-only double entry. Over an operation amount and frozen sum to zero per currency.
CREATE TABLE entries (
    account_id    uuid        NOT NULL,
    lane          smallint    NOT NULL,
    currency      text        NOT NULL,
    number        bigint      NOT NULL CHECK (number > 0),
    operation_id  uuid        NOT NULL,
    operation     text        NOT NULL,
    amount        bigint      NOT NULL, -- change of the actual balance
    frozen        bigint      NOT NULL, -- change of the frozen balance
    balance_after bigint      NOT NULL,
    frozen_after  bigint      NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (account_id, currency, number, lane)
);

-- Money set aside. The ID is that of the operation that did it.
CREATE TABLE holds (
    id         uuid        NOT NULL,
    lane       smallint    NOT NULL,
    account_id uuid        NOT NULL,
    currency   text        NOT NULL,
    amount     bigint      NOT NULL CHECK (amount > 0),
    captured   bigint      NOT NULL CHECK (captured BETWEEN 0 AND amount),
    status     text        NOT NULL CHECK (status IN ('open', 'captured', 'released', 'expired')),
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (id, lane),
    CONSTRAINT holds_captured CHECK ((status = 'captured') = (captured > 0))
);
CREATE INDEX holds_expiry ON holds (expires_at) WHERE status = 'open';

-- The payment of an order, as the saga sees it.
CREATE TABLE payments (
    order_id   uuid        NOT NULL,
    lane       smallint    NOT NULL,
    account_id uuid        NOT NULL,
    currency   text        NOT NULL,
    amount     bigint      NOT NULL CHECK (amount > 0),
    capture    text        NOT NULL CHECK (capture IN ('automatic', 'manual')),
    status     text        NOT NULL CHECK (status IN ('created', 'authorized', 'succeeded', 'failed', 'cancelled', 'refunded')),
    reason     text        NOT NULL DEFAULT '',
    captured   bigint      NOT NULL CHECK (captured BETWEEN 0 AND amount),
    refunded   bigint      NOT NULL CHECK (refunded BETWEEN 0 AND captured),
    version    bigint      NOT NULL CHECK (version > 0),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (order_id, lane)
) WITH (fillfactor = 90);

-- The service's role changes no history.
-- +goose StatementBegin
DO $$
BEGIN
    EXECUTE format('REVOKE UPDATE, DELETE ON entries FROM %I', current_setting('altyn.service_role'));
    EXECUTE format('REVOKE DELETE ON accounts, balances, operations, holds, payments FROM %I', current_setting('altyn.service_role'));
END
$$;
-- +goose StatementEnd

-- +goose Down
DROP TABLE payments;
DROP TABLE holds;
DROP TABLE entries;
DROP TABLE operations;
DROP TABLE balances;
DROP TABLE accounts;
