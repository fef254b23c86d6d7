-- +goose Up

-- The restorations of this database: each begins an epoch, whose number is in the versions of events. Numbers are seconds since
-- 1970, so that one never comes again, whichever of the rows was lost by a restoration itself.
CREATE TABLE epochs (
    number      bigint      PRIMARY KEY CHECK (number > 0),
    began_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    restored_to timestamptz NOT NULL -- the moment whose state the database has got
);
-- +goose StatementBegin
DO $$
BEGIN
    EXECUTE format('REVOKE INSERT, UPDATE, DELETE ON epochs FROM %I', current_setting('altyn.service_role'));
END $$;
-- +goose StatementEnd

-- +goose Down
DROP TABLE epochs;
