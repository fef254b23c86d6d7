-- +goose Up

-- Who has asked for an operation, '' where nobody is told apart; with which Idempotency-Key, '' where there was none; and the record
-- of the request that cancelled it. A subject is personal and a key is a client's text, so the chain covers none of these columns:
-- whoever owns the table can erase them. The service's role writes the first two once, and the third one before the end.
ALTER TABLE operations
    ADD subject text NOT NULL DEFAULT '', ADD key text NOT NULL DEFAULT '', ADD cancelled_by uuid,
    ALTER subject SET STATISTICS 0, ALTER key SET STATISTICS 0, ALTER cancelled_by SET STATISTICS 0;
-- +goose StatementBegin
DO $$
BEGIN
    EXECUTE format('GRANT UPDATE (cancelled_by) ON operations TO %I', current_setting('altyn.service_role'));
END
$$;
-- +goose StatementEnd

-- +goose Down
ALTER TABLE operations DROP cancelled_by, DROP key, DROP subject;
