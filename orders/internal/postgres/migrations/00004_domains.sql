-- +goose Up

-- A CHECK of a table is read and planned anew by every statement that writes to the table: where orders come alone, that was
-- half of what a statement cost. Those of a domain are kept ready by the session, so whatever is about a single column is
-- said by its type.
--
-- The domains get their CHECKs when the columns have their types, and all CHECKs are NOT VALID: what is there has satisfied
-- the same conditions, so no table is rewritten or looked at.
CREATE DOMAIN order_status AS text;
CREATE DOMAIN capture AS text;
CREATE DOMAIN on_insufficient AS text;
CREATE DOMAIN reason AS text;
CREATE DOMAIN description AS text;
CREATE DOMAIN positive AS bigint;

ALTER TABLE orders
    DROP CONSTRAINT orders_status_check, DROP CONSTRAINT orders_capture_check, DROP CONSTRAINT orders_on_insufficient_check,
    DROP CONSTRAINT orders_reason_check, DROP CONSTRAINT orders_description_check,
    DROP CONSTRAINT orders_amount_check, DROP CONSTRAINT orders_version_check, DROP CONSTRAINT orders_payment_version_check,
    DROP CONSTRAINT orders_check, DROP CONSTRAINT orders_check1,
    ALTER status TYPE order_status, ALTER capture TYPE capture, ALTER on_insufficient TYPE on_insufficient,
    ALTER reason TYPE reason, ALTER description TYPE description,
    ALTER amount TYPE positive, ALTER version TYPE positive,
    ADD CONSTRAINT orders_numbers CHECK (0 <= refunded AND refunded <= captured AND captured <= amount AND 0 <= payment_version) NOT VALID;

ALTER TABLE order_history
    DROP CONSTRAINT order_history_transition,
    ALTER from_status TYPE order_status, ALTER to_status TYPE order_status,
    -- The state machine, as one text: each pair as a row of its own is many times as much to read.
    ADD CONSTRAINT order_history_transition CHECK (position(' ' || from_status || '>' || to_status || ' ' IN
        ' pending>pending pending>authorized pending>paid pending>failed pending>cancelling'
        ' authorized>paid authorized>failed authorized>cancelling'
        ' paid>paid paid>cancelling'
        ' cancelling>cancelling cancelling>cancelled cancelling>failed ') > 0) NOT VALID;

ALTER DOMAIN order_status ADD CONSTRAINT order_status CHECK (VALUE IN
    ('pending', 'authorized', 'paid', 'failed', 'cancelling', 'cancelled')) NOT VALID;
ALTER DOMAIN capture ADD CONSTRAINT capture CHECK (VALUE IN ('automatic', 'manual')) NOT VALID;
ALTER DOMAIN on_insufficient ADD CONSTRAINT on_insufficient CHECK (VALUE IN ('reject', 'wait')) NOT VALID;
ALTER DOMAIN reason ADD CONSTRAINT reason CHECK (char_length(VALUE) <= 200) NOT VALID;
ALTER DOMAIN description ADD CONSTRAINT description CHECK (char_length(VALUE) <= 1000) NOT VALID;
ALTER DOMAIN positive ADD CONSTRAINT positive CHECK (VALUE > 0) NOT VALID;

-- +goose Down
ALTER TABLE order_history
    DROP CONSTRAINT order_history_transition,
    ALTER from_status TYPE text, ALTER to_status TYPE text,
    ADD CONSTRAINT order_history_transition CHECK ((from_status, to_status) IN (
        ('pending', 'pending'), ('pending', 'authorized'), ('pending', 'paid'), ('pending', 'failed'), ('pending', 'cancelling'),
        ('authorized', 'paid'), ('authorized', 'failed'), ('authorized', 'cancelling'),
        ('paid', 'paid'), ('paid', 'cancelling'),
        ('cancelling', 'cancelling'), ('cancelling', 'cancelled'), ('cancelling', 'failed'))) NOT VALID;
ALTER TABLE orders
    DROP CONSTRAINT orders_numbers,
    ALTER status TYPE text, ALTER capture TYPE text, ALTER on_insufficient TYPE text, ALTER reason TYPE text,
    ALTER description TYPE text, ALTER amount TYPE bigint, ALTER version TYPE bigint,
    ADD CHECK (status IN ('pending', 'authorized', 'paid', 'failed', 'cancelling', 'cancelled')) NOT VALID,
    ADD CHECK (capture IN ('automatic', 'manual')) NOT VALID,
    ADD CHECK (on_insufficient IN ('reject', 'wait')) NOT VALID,
    ADD CHECK (char_length(reason) <= 200) NOT VALID,
    ADD CHECK (char_length(description) <= 1000) NOT VALID,
    ADD CHECK (amount > 0) NOT VALID, ADD CHECK (version > 0) NOT VALID, ADD CHECK (payment_version >= 0) NOT VALID,
    ADD CONSTRAINT orders_check CHECK (captured BETWEEN 0 AND amount) NOT VALID,
    ADD CONSTRAINT orders_check1 CHECK (refunded BETWEEN 0 AND captured) NOT VALID;
DROP DOMAIN positive;
DROP DOMAIN description;
DROP DOMAIN reason;
DROP DOMAIN on_insufficient;
DROP DOMAIN capture;
DROP DOMAIN order_status;
