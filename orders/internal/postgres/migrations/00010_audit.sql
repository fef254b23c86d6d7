-- +goose NO TRANSACTION
-- +goose Up

-- By which the audit finds what has changed. The history is only added to, so the index is a few pages and costs an insert next to
-- nothing.
CREATE INDEX CONCURRENTLY IF NOT EXISTS order_history_at ON order_history USING brin (at) WITH (autosummarize = on);

-- +goose Down
DROP INDEX CONCURRENTLY order_history_at;
