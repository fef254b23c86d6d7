-- +goose Up

-- When the broker got the message; NULL for what did not come from it.
ALTER TABLE inbox ADD published_at timestamptz;

-- +goose Down
ALTER TABLE inbox DROP published_at;
