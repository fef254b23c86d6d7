-- +goose NO TRANSACTION
-- +goose Up

-- A tenant's operations, newest first; payments of orders and holds are found by the operations that made them. The index on
-- orders leaves out the operation that begins a payment: it has the order's ID. No column of these indexes ever changes. What an
-- interrupted run has left is made anew.
DROP INDEX CONCURRENTLY IF EXISTS operations_default;
CREATE INDEX CONCURRENTLY operations_default ON operations (seq) WHERE tenant = 'default';
DROP INDEX CONCURRENTLY IF EXISTS operations_tenant;
CREATE INDEX CONCURRENTLY operations_tenant ON operations (tenant, seq) WHERE tenant <> 'default';
DROP INDEX CONCURRENTLY IF EXISTS operations_order;
CREATE INDEX CONCURRENTLY operations_order ON operations (order_id, seq) WHERE order_id <> id;
DROP INDEX CONCURRENTLY IF EXISTS operations_reference;
CREATE INDEX CONCURRENTLY operations_reference ON operations (tenant, reference text_pattern_ops, seq) WHERE reference <> '';

-- Owners and references are also looked for by how they begin, which needs their indexes to be in the order of bytes; equality uses
-- them too. So they replace those in the order of a language.
DROP INDEX CONCURRENTLY IF EXISTS accounts_default_owners;
CREATE INDEX CONCURRENTLY accounts_default_owners ON accounts (owner text_pattern_ops, seq)
    WHERE tenant = 'default' AND owner <> '';
DROP INDEX CONCURRENTLY IF EXISTS accounts_default_references;
CREATE INDEX CONCURRENTLY accounts_default_references ON accounts (reference text_pattern_ops, seq)
    WHERE tenant = 'default' AND reference <> '';
DROP INDEX CONCURRENTLY IF EXISTS accounts_tenant_owners;
CREATE INDEX CONCURRENTLY accounts_tenant_owners ON accounts (tenant, owner text_pattern_ops, seq)
    WHERE tenant <> 'default' AND owner <> '';
DROP INDEX CONCURRENTLY IF EXISTS accounts_tenant_references;
CREATE INDEX CONCURRENTLY accounts_tenant_references ON accounts (tenant, reference text_pattern_ops, seq)
    WHERE tenant <> 'default' AND reference <> '';
DROP INDEX CONCURRENTLY IF EXISTS accounts_default_owner;
DROP INDEX CONCURRENTLY IF EXISTS accounts_default_reference;
DROP INDEX CONCURRENTLY IF EXISTS accounts_tenant_owner;
DROP INDEX CONCURRENTLY IF EXISTS accounts_tenant_reference;

-- +goose Down
CREATE INDEX CONCURRENTLY IF NOT EXISTS accounts_default_owner ON accounts (owner, seq) WHERE tenant = 'default' AND owner <> '';
CREATE INDEX CONCURRENTLY IF NOT EXISTS accounts_default_reference ON accounts (reference, seq)
    WHERE tenant = 'default' AND reference <> '';
CREATE INDEX CONCURRENTLY IF NOT EXISTS accounts_tenant_owner ON accounts (tenant, owner, seq)
    WHERE tenant <> 'default' AND owner <> '';
CREATE INDEX CONCURRENTLY IF NOT EXISTS accounts_tenant_reference ON accounts (tenant, reference, seq)
    WHERE tenant <> 'default' AND reference <> '';
DROP INDEX CONCURRENTLY accounts_default_owners;
DROP INDEX CONCURRENTLY accounts_default_references;
DROP INDEX CONCURRENTLY accounts_tenant_owners;
DROP INDEX CONCURRENTLY accounts_tenant_references;
DROP INDEX CONCURRENTLY operations_reference;
DROP INDEX CONCURRENTLY operations_order;
DROP INDEX CONCURRENTLY operations_tenant;
DROP INDEX CONCURRENTLY operations_default;
