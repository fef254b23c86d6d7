-- +goose Up

-- A CHECK of a table is read and planned anew by every statement that writes to the table: where requests come alone, that was
-- half of what a statement cost. Those of a domain are kept ready by the session, so whatever is about a single column is
-- said by its type.
--
-- The domains get their CHECKs when the columns have their types, and all CHECKs are NOT VALID: what is there has satisfied
-- the same conditions, so no table is rewritten or looked at.
CREATE DOMAIN operation AS text;
CREATE DOMAIN operation_status AS text;
CREATE DOMAIN payment_status AS text;
CREATE DOMAIN previous_status AS text;
CREATE DOMAIN capture AS text;
CREATE DOMAIN positive AS bigint;
CREATE DOMAIN not_negative AS bigint;

ALTER TABLE balances
    DROP CONSTRAINT balances_frozen_not_negative, DROP CONSTRAINT balances_waiting,
    ALTER frozen TYPE not_negative, ALTER waiting TYPE not_negative;

ALTER TABLE operations
    DROP CONSTRAINT operations_operation_check, DROP CONSTRAINT operations_status_check, DROP CONSTRAINT operations_amount_check,
    DROP CONSTRAINT operations_reason, DROP CONSTRAINT operations_settled,
    ALTER operation TYPE operation, ALTER status TYPE operation_status, ALTER amount TYPE not_negative,
    -- What was settled is a success, or an error for a reason; what waits may have a reason.
    ADD CONSTRAINT operations_outcome CHECK (status = CASE WHEN settled_at IS NULL THEN 'created' WHEN reason = '' THEN 'success' ELSE 'error' END)
        NOT VALID;

ALTER TABLE payments
    DROP CONSTRAINT payments_status_check, DROP CONSTRAINT payments_capture_check, DROP CONSTRAINT payments_amount_check,
    DROP CONSTRAINT payments_version_check, DROP CONSTRAINT payments_check, DROP CONSTRAINT payments_check1,
    DROP CONSTRAINT payments_transition,
    ALTER status TYPE payment_status, ALTER previous TYPE previous_status, ALTER capture TYPE capture,
    ALTER amount TYPE positive, ALTER version TYPE positive,
    ADD CONSTRAINT payments_amounts CHECK (0 <= refunded AND refunded <= captured AND captured <= amount) NOT VALID,
    -- The state machine, as one text: each pair as a row of its own is many times as much to read.
    ADD CONSTRAINT payments_transition CHECK (position(' ' || previous || '>' || status || ' ' IN
        ' >created >authorized >succeeded >failed >cancelled'
        ' created>created created>authorized created>succeeded created>failed created>cancelled'
        ' authorized>succeeded authorized>failed authorized>cancelled'
        ' succeeded>refunded succeeded>cancelled'
        ' refunded>refunded refunded>cancelled ') > 0) NOT VALID;

ALTER DOMAIN operation ADD CONSTRAINT operation CHECK (VALUE IN
    ('create_account', 'deposit', 'withdraw', 'transfer', 'hold', 'capture', 'release', 'payment', 'refund')) NOT VALID;
ALTER DOMAIN operation_status ADD CONSTRAINT operation_status CHECK (VALUE IN ('created', 'success', 'error')) NOT VALID;
ALTER DOMAIN payment_status ADD CONSTRAINT payment_status CHECK (VALUE IN
    ('created', 'authorized', 'succeeded', 'failed', 'cancelled', 'refunded')) NOT VALID;
ALTER DOMAIN previous_status ADD CONSTRAINT previous_status CHECK (VALUE IN
    ('', 'created', 'authorized', 'succeeded', 'failed', 'cancelled', 'refunded')) NOT VALID;
ALTER DOMAIN capture ADD CONSTRAINT capture CHECK (VALUE IN ('automatic', 'manual')) NOT VALID;
ALTER DOMAIN positive ADD CONSTRAINT positive CHECK (VALUE > 0) NOT VALID;
ALTER DOMAIN not_negative ADD CONSTRAINT not_negative CHECK (VALUE >= 0) NOT VALID;

-- +goose Down
ALTER TABLE payments
    DROP CONSTRAINT payments_transition, DROP CONSTRAINT payments_amounts,
    ALTER status TYPE text, ALTER previous TYPE text, ALTER capture TYPE text, ALTER amount TYPE bigint, ALTER version TYPE bigint,
    ADD CHECK (status IN ('created', 'authorized', 'succeeded', 'failed', 'cancelled', 'refunded')) NOT VALID,
    ADD CHECK (capture IN ('automatic', 'manual')) NOT VALID,
    ADD CHECK (amount > 0) NOT VALID, ADD CHECK (version > 0) NOT VALID,
    ADD CONSTRAINT payments_check CHECK (captured BETWEEN 0 AND amount) NOT VALID,
    ADD CONSTRAINT payments_check1 CHECK (refunded BETWEEN 0 AND captured) NOT VALID,
    ADD CONSTRAINT payments_transition CHECK ((previous, status) IN (
        ('', 'created'), ('', 'authorized'), ('', 'succeeded'), ('', 'failed'), ('', 'cancelled'),
        ('created', 'created'), ('created', 'authorized'), ('created', 'succeeded'), ('created', 'failed'), ('created', 'cancelled'),
        ('authorized', 'succeeded'), ('authorized', 'failed'), ('authorized', 'cancelled'),
        ('succeeded', 'refunded'), ('succeeded', 'cancelled'),
        ('refunded', 'refunded'), ('refunded', 'cancelled'))) NOT VALID;
ALTER TABLE operations
    DROP CONSTRAINT operations_outcome,
    ALTER operation TYPE text, ALTER status TYPE text, ALTER amount TYPE bigint,
    ADD CHECK (operation IN ('create_account', 'deposit', 'withdraw', 'transfer', 'hold', 'capture', 'release', 'payment', 'refund')) NOT VALID,
    ADD CHECK (status IN ('created', 'success', 'error')) NOT VALID,
    ADD CHECK (amount >= 0) NOT VALID,
    ADD CONSTRAINT operations_reason CHECK (
        CASE status WHEN 'error' THEN reason <> '' WHEN 'success' THEN reason = '' ELSE true END) NOT VALID,
    ADD CONSTRAINT operations_settled CHECK ((status = 'created') = (settled_at IS NULL)) NOT VALID;
ALTER TABLE balances
    ALTER frozen TYPE bigint, ALTER waiting TYPE bigint,
    ADD CONSTRAINT balances_frozen_not_negative CHECK (frozen >= 0) NOT VALID,
    ADD CONSTRAINT balances_waiting CHECK (waiting >= 0) NOT VALID;
DROP DOMAIN not_negative;
DROP DOMAIN positive;
DROP DOMAIN capture;
DROP DOMAIN previous_status;
DROP DOMAIN payment_status;
DROP DOMAIN operation_status;
DROP DOMAIN operation;
