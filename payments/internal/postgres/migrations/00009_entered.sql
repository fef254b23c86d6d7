-- +goose Up

-- When the last entry of a balance was made. The next one is not before it, even where the clock has stepped back: so times run
-- with the numbers, and a time is found among them.
ALTER TABLE balances ADD entered_at timestamptz NOT NULL DEFAULT '-infinity', ALTER entered_at SET STATISTICS 0;

-- +goose Down
ALTER TABLE balances DROP entered_at;
