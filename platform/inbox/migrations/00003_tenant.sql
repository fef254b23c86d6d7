-- +goose Up

-- Whose a message is, so that each tenant gets its share of a batch. '' is nobody's in particular, and in no index: it has no share
-- of its own. NULL is what was stored before, or by an earlier version: while any of it is ready, all goes by arrival, since nothing
-- tells of which tenant's queue it is a part.
ALTER TABLE inbox ADD tenant text, ALTER tenant SET STATISTICS 0;
CREATE INDEX inbox_tenant ON inbox (tenant, lane, seq) WHERE NOT stopped AND tenant IS DISTINCT FROM '';

-- +goose Down
ALTER TABLE inbox DROP tenant;
