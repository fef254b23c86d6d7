-- +goose NO TRANSACTION
-- +goose Up

-- The default tenant's lists read no rows of others, and an account's none that strangers or other tenants have asked for. What
-- an interrupted run has left is made anew.
DROP INDEX CONCURRENTLY IF EXISTS accounts_default;
CREATE INDEX CONCURRENTLY accounts_default ON accounts (seq) WHERE tenant = 'default';
DROP INDEX CONCURRENTLY IF EXISTS accounts_default_owner;
CREATE INDEX CONCURRENTLY accounts_default_owner ON accounts (owner, seq) WHERE tenant = 'default' AND owner <> '';
DROP INDEX CONCURRENTLY IF EXISTS accounts_default_reference;
CREATE INDEX CONCURRENTLY accounts_default_reference ON accounts (reference, seq) WHERE tenant = 'default' AND reference <> '';
DROP INDEX CONCURRENTLY IF EXISTS operations_known;
CREATE INDEX CONCURRENTLY operations_known ON operations (account_id, seq) WHERE NOT stranger;
DROP INDEX CONCURRENTLY IF EXISTS operations_payee_tenant;
CREATE INDEX CONCURRENTLY operations_payee_tenant ON operations (to_account_id, tenant, seq) WHERE to_account_id IS NOT NULL;
DROP INDEX CONCURRENTLY IF EXISTS accounts_seq;
DROP INDEX CONCURRENTLY IF EXISTS accounts_owner;
DROP INDEX CONCURRENTLY IF EXISTS accounts_reference;
DROP INDEX CONCURRENTLY IF EXISTS operations_account;
DROP INDEX CONCURRENTLY IF EXISTS operations_payee;

-- +goose Down
CREATE INDEX CONCURRENTLY IF NOT EXISTS accounts_seq ON accounts (seq);
CREATE INDEX CONCURRENTLY IF NOT EXISTS accounts_owner ON accounts (owner, seq) WHERE owner <> '';
CREATE INDEX CONCURRENTLY IF NOT EXISTS accounts_reference ON accounts (reference, seq) WHERE reference <> '';
CREATE INDEX CONCURRENTLY IF NOT EXISTS operations_account ON operations (account_id, seq);
CREATE INDEX CONCURRENTLY IF NOT EXISTS operations_payee ON operations (to_account_id, seq) WHERE to_account_id IS NOT NULL;
DROP INDEX CONCURRENTLY accounts_default;
DROP INDEX CONCURRENTLY accounts_default_owner;
DROP INDEX CONCURRENTLY accounts_default_reference;
DROP INDEX CONCURRENTLY operations_known;
DROP INDEX CONCURRENTLY operations_payee_tenant;
