-- +goose NO TRANSACTION
-- +goose Up

-- What the audit looks up: the entries of an operation, and the open holds of a balance. What an interrupted run has left is made
-- anew.
DROP INDEX CONCURRENTLY IF EXISTS entries_operation;
CREATE INDEX CONCURRENTLY entries_operation ON entries (operation_id);
DROP INDEX CONCURRENTLY IF EXISTS holds_open;
CREATE INDEX CONCURRENTLY holds_open ON holds (account_id, currency) WHERE status = 'open';

-- +goose Down
DROP INDEX CONCURRENTLY holds_open;
DROP INDEX CONCURRENTLY entries_operation;
