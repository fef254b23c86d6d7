-- +goose Up

-- The state machine lets some statuses follow themselves: what happened to a payment is a line of its order's history
-- also where it leaves the order where it stands. What is there satisfied the narrower constraint, so no row needs to be
-- looked at again (NOT VALID), and the table is locked for a moment only.
ALTER TABLE order_history
    DROP CONSTRAINT order_history_transition,
    ADD CONSTRAINT order_history_transition CHECK ((from_status, to_status) IN (
        ('pending', 'pending'), ('pending', 'authorized'), ('pending', 'paid'), ('pending', 'failed'), ('pending', 'cancelling'),
        ('authorized', 'paid'), ('authorized', 'failed'), ('authorized', 'cancelling'),
        ('paid', 'paid'), ('paid', 'cancelling'),
        ('cancelling', 'cancelling'), ('cancelling', 'cancelled'), ('cancelling', 'failed'))) NOT VALID;

-- The request that began an order's cancellation: an order has one at most. Whoever writes here holds the order's row
-- locked.
CREATE TABLE cancellations (
    order_id    uuid        PRIMARY KEY,
    request     uuid,                 -- derived from the client's Idempotency-Key, if it gave one
    fingerprint uuid        NOT NULL, -- of the request: tells its repetition from another one under the same key
    reason      text        NOT NULL CHECK (char_length(reason) <= 200),
    at          timestamptz NOT NULL
);

-- +goose StatementBegin
DO $$
BEGIN
    EXECUTE format('REVOKE UPDATE, DELETE ON cancellations FROM %I', current_setting('altyn.service_role'));
END $$;
-- +goose StatementEnd

-- +goose Down
DROP TABLE cancellations;
ALTER TABLE order_history
    DROP CONSTRAINT order_history_transition,
    ADD CONSTRAINT order_history_transition CHECK ((from_status, to_status) IN (
        ('pending', 'authorized'), ('pending', 'paid'), ('pending', 'failed'), ('pending', 'cancelling'),
        ('authorized', 'paid'), ('authorized', 'failed'), ('authorized', 'cancelling'),
        ('paid', 'cancelling'),
        ('cancelling', 'cancelled'), ('cancelling', 'failed'))) NOT VALID;
