-- +goose Up

-- Whose a parked message is. In outbox and outbox_waiting the messages of another tenant than the default one say it before their
-- other fields.
ALTER TABLE outbox_parked ADD tenant text NOT NULL DEFAULT 'default';

-- +goose Down
ALTER TABLE outbox_parked DROP tenant;
