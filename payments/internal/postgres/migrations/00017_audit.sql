-- +goose NO TRANSACTION
-- +goose Up

-- What the audit looks up: the entries of an operation, which an explanation shows, too, and the open holds of a balance. What an
-- interrupted run has left is made anew.
DROP INDEX CONCURRENTLY IF EXISTS entries_operation;
CREATE INDEX CONCURRENTLY entries_operation ON entries (operation_id);
ALTER TABLE entries ALTER operation_id SET STATISTICS 10;
DROP INDEX CONCURRENTLY IF EXISTS holds_open;
CREATE INDEX CONCURRENTLY holds_open ON holds (account_id, currency) WHERE status = 'open';

-- +goose Down
DROP INDEX CONCURRENTLY holds_open;
ALTER TABLE entries ALTER operation_id SET STATISTICS 0;
DROP INDEX CONCURRENTLY entries_operation;
