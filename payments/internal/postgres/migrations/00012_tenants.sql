-- +goose Up

-- Whose an account is, and what is about it. What is there already, and what an earlier version still writes, is tenant default.
-- A balance has the tenant of its account from its first entry on: so the settlement, which locks it, need not look the account up.
ALTER TABLE accounts ADD tenant text NOT NULL DEFAULT 'default';
ALTER TABLE balances ADD tenant text NOT NULL DEFAULT 'default', ALTER tenant SET STATISTICS 0;
ALTER TABLE payments ADD tenant text NOT NULL DEFAULT 'default', ALTER tenant SET STATISTICS 0;

-- The tenant of an operation is that of who asked for it. Where the account was not in reach of who asked, the record is of no
-- interest to the account.
ALTER TABLE operations ADD tenant text NOT NULL DEFAULT 'default', ALTER tenant SET STATISTICS 0,
    ADD stranger boolean NOT NULL DEFAULT false, ALTER stranger SET STATISTICS 0;

-- What one tenant says of an order's goods is not in the way of what another one says.
ALTER TABLE inventory ADD tenant text NOT NULL DEFAULT 'default',
    DROP CONSTRAINT inventory_pkey, ADD PRIMARY KEY (order_id, tenant),
    DROP CONSTRAINT inventory_idempotent_key_key, ADD UNIQUE (idempotent_key, tenant);

-- A tenant's lists read no rows of others. Where there are no tenants, these indexes are empty.
CREATE INDEX accounts_tenant ON accounts (tenant, seq) WHERE tenant <> 'default';
CREATE INDEX accounts_tenant_owner ON accounts (tenant, owner, seq) WHERE tenant <> 'default' AND owner <> '';
CREATE INDEX accounts_tenant_reference ON accounts (tenant, reference, seq) WHERE tenant <> 'default' AND reference <> '';

-- +goose Down
DROP INDEX accounts_tenant_reference;
DROP INDEX accounts_tenant_owner;
DROP INDEX accounts_tenant;
DELETE FROM inventory WHERE tenant <> 'default';
ALTER TABLE inventory DROP CONSTRAINT inventory_pkey, DROP CONSTRAINT inventory_idempotent_key_tenant_key, DROP tenant,
    ADD PRIMARY KEY (order_id), ADD UNIQUE (idempotent_key);
ALTER TABLE operations DROP stranger, DROP tenant;
ALTER TABLE payments DROP tenant;
ALTER TABLE balances DROP tenant;
ALTER TABLE accounts DROP tenant;
