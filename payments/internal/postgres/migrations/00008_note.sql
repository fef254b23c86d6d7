-- +goose Up

-- What a client has said of a cancellation, a rejection or a refund. A reason is a code. What the version before has kept
-- elsewhere is read from there: the note of a cancelled payment from its reason, that of a release from its description.
ALTER TABLE operations ADD note text NOT NULL DEFAULT '', ALTER note SET STATISTICS 0;
ALTER TABLE payments ADD note text NOT NULL DEFAULT '', ALTER note SET STATISTICS 0;

-- The record of a request to cancel an operation.
ALTER DOMAIN operation DROP CONSTRAINT operation;
ALTER DOMAIN operation ADD CONSTRAINT operation CHECK (VALUE IN
    ('create_account', 'deposit', 'withdraw', 'transfer', 'hold', 'capture', 'release', 'payment', 'refund', 'cancel_operation')) NOT VALID;

-- What waits behind something else had no deadline: it gets the usual one of what waits for money, from now on.
UPDATE waits SET expires_at = now() + interval '24 hours' WHERE expires_at IS NULL;

-- +goose Down
ALTER DOMAIN operation DROP CONSTRAINT operation;
ALTER DOMAIN operation ADD CONSTRAINT operation CHECK (VALUE IN
    ('create_account', 'deposit', 'withdraw', 'transfer', 'hold', 'capture', 'release', 'payment', 'refund')) NOT VALID;
ALTER TABLE payments DROP note;
ALTER TABLE operations DROP note;
