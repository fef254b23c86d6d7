-- +goose Up

-- Whose an order is, who placed it ('' where nobody is told apart), and whether its account must be his. What was there before is the
-- default tenant's.
ALTER TABLE orders
    ADD tenant text NOT NULL DEFAULT 'default', ADD subject text NOT NULL DEFAULT '', ADD owned boolean NOT NULL DEFAULT false,
    ALTER tenant SET STATISTICS 10, ALTER subject SET STATISTICS 10, ALTER owned SET STATISTICS 0;

-- A tenant's lists read no row of another one. They are partial, so that they cost nothing where there are no tenants, and by -seq:
-- the indexes by seq cannot answer these lists, so no plan goes through them for a few of their rows.
CREATE INDEX orders_tenant ON orders (tenant, (-seq)) WHERE tenant <> 'default';
CREATE INDEX orders_tenant_account ON orders (tenant, account_id, (-seq)) WHERE tenant <> 'default';
CREATE INDEX orders_tenant_reference ON orders (tenant, reference, (-seq)) WHERE tenant <> 'default' AND reference <> '';
-- The lists of those who see only what they have placed.
CREATE INDEX orders_subject ON orders (tenant, subject, (-seq)) WHERE subject <> '';

-- +goose Down
DROP INDEX orders_subject;
DROP INDEX orders_tenant_reference;
DROP INDEX orders_tenant_account;
DROP INDEX orders_tenant;
ALTER TABLE orders DROP owned, DROP subject, DROP tenant;
