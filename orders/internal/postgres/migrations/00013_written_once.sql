-- +goose Up

-- What an order says and who placed it never changes: the service's role may change the columns of its state alone.
-- +goose StatementBegin
DO $$
BEGIN
    EXECUTE format('REVOKE UPDATE ON orders FROM %I', current_setting('altyn.service_role'));
    EXECUTE format('GRANT UPDATE (status, reason, note, captured, refunded, version, payment_version, updated_at) ON orders TO %I',
        current_setting('altyn.service_role'));
END $$;
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
DO $$
BEGIN
    EXECUTE format('GRANT UPDATE ON orders TO %I', current_setting('altyn.service_role'));
END $$;
-- +goose StatementEnd
