-- +goose Up

-- The pages of the tables beside the one that the pass is at, to look at next.
ALTER TABLE audit ADD beside bigint[] NOT NULL DEFAULT '{}';

-- +goose Down
ALTER TABLE audit DROP beside;
