-- +goose Up

-- Which request each key stands for that is not the ID of one record, such as a batch's. Another one is refused.
-- Keys never expire. A key names no account, so the table has no lane.
CREATE TABLE request_keys (
    id          uuid        PRIMARY KEY, -- derived from the client's key and the door it came through
    fingerprint uuid        NOT NULL,    -- of the request
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- +goose StatementBegin
DO $$
BEGIN
    EXECUTE format('REVOKE UPDATE, DELETE ON request_keys FROM %I', current_setting('altyn.service_role'));
END
$$;
-- +goose StatementEnd

-- +goose Down
DROP TABLE request_keys;
