-- +goose Up

-- When the broker got the event or command that asked for it; NULL for what did not come from it.
ALTER TABLE operations ADD published_at timestamptz;

-- +goose Down
ALTER TABLE operations DROP published_at;
