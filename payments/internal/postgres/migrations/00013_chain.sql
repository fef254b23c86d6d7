-- +goose Up

-- What the batches have written, as hashes: package chain says how. The hash of a link covers its items and the hash of the
-- link before it.
CREATE TABLE chain (
    number  bigint      PRIMARY KEY, -- from 1, without gaps
    at      timestamptz NOT NULL,
    sealing bigint      NOT NULL,    -- 0 if batches have written the items; else the number of the sealing
    items   bytea       NOT NULL,
    hash    bytea       NOT NULL
);
-- What a batch has written waits here, since its own transaction, until it becomes a part of a link.
CREATE TABLE chain_unlinked (
    at    timestamptz NOT NULL, -- that of the batch's entries
    items bytea       NOT NULL
) WITH (toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0);
-- The heads that were published.
CREATE TABLE chain_heads (
    number bigint      PRIMARY KEY,
    at     timestamptz NOT NULL
);
-- Hashes cannot be compressed.
ALTER TABLE chain ALTER items SET STORAGE EXTERNAL;
ALTER TABLE chain_unlinked ALTER items SET STORAGE EXTERNAL, ALTER at SET STATISTICS 0, ALTER items SET STATISTICS 0;

-- What is final stays as it is: the service's role may change only the columns of a row's state, and only on the way to its
-- end. Those who own the tables may more, as it takes to erase what clients have written.
-- +goose StatementBegin
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'what is final in % is not changed', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END
$$;
-- +goose StatementEnd
-- +goose StatementBegin
DO $$
DECLARE
    service text := current_setting('altyn.service_role');
BEGIN
    EXECUTE format('REVOKE UPDATE, DELETE ON chain, chain_heads FROM %I', service);
    EXECUTE format('REVOKE UPDATE ON chain_unlinked FROM %I', service);
    EXECUTE format('REVOKE UPDATE ON accounts, operations, holds, payments FROM %I', service);
    EXECUTE format('GRANT UPDATE (status, reason, note, hold_id, settled_at) ON operations TO %I', service);
    EXECUTE format('GRANT UPDATE (status, captured) ON holds TO %I', service);
    EXECUTE format('GRANT UPDATE (status, reason, note, previous, captured, refunded, version, updated_at) ON payments TO %I',
        service);
    -- The conditions are the triggers', so that no function is called for a change that is allowed.
    EXECUTE format($trigger$CREATE TRIGGER final BEFORE UPDATE ON operations FOR EACH ROW
        WHEN (current_user = %L AND OLD.status <> 'created') EXECUTE FUNCTION refuse_change()$trigger$, service);
    EXECUTE format($trigger$CREATE TRIGGER final BEFORE UPDATE ON holds FOR EACH ROW
        WHEN (current_user = %L AND OLD.status <> 'open') EXECUTE FUNCTION refuse_change()$trigger$, service);
    EXECUTE format($trigger$CREATE TRIGGER final BEFORE UPDATE ON payments FOR EACH ROW
        WHEN (current_user = %L AND (NEW.version <= OLD.version
            OR OLD.status IN ('failed', 'cancelled')
            OR OLD.status IN ('succeeded', 'refunded') AND (NEW.status NOT IN ('refunded', 'cancelled')
                OR NEW.captured <> OLD.captured OR NEW.refunded < OLD.refunded)))
        EXECUTE FUNCTION refuse_change()$trigger$, service);
END
$$;
-- +goose StatementEnd

-- +goose Down
DROP TRIGGER final ON payments;
DROP TRIGGER final ON holds;
DROP TRIGGER final ON operations;
DROP FUNCTION refuse_change;
-- +goose StatementBegin
DO $$
BEGIN
    EXECUTE format('GRANT UPDATE ON accounts, operations, holds, payments TO %I', current_setting('altyn.service_role'));
END
$$;
-- +goose StatementEnd
DROP TABLE chain_heads;
DROP TABLE chain_unlinked;
DROP TABLE chain;
