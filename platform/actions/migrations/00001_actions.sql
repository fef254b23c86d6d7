-- +goose Up

-- What operators did. A service can add to it and read it, and nothing else.
CREATE TABLE admin_actions (
    id         uuid        PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    tenant     text        NOT NULL, -- of the operator, as is the subject; '' where nobody is told apart
    subject    text        NOT NULL,
    action     text        NOT NULL, -- such as parked.discard
    object     text        NOT NULL, -- what it was done to: an ID
    reason     text        NOT NULL, -- what the operator said
    detail     text        NOT NULL, -- JSON: the object as it was
    request_id text        NOT NULL
);

-- The list of the newest.
CREATE INDEX admin_actions_at ON admin_actions (at, id);

-- +goose StatementBegin
DO $$
BEGIN
    EXECUTE format('REVOKE UPDATE, DELETE ON admin_actions FROM %I', current_setting('altyn.service_role'));
END
$$;
-- +goose StatementEnd

-- +goose Down
DROP TABLE admin_actions;
