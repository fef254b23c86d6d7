-- +goose Up

-- Accepted messages that have not taken effect yet, each in the queue of its account: the permanent record of a message
-- is what it has done. A row is deleted by the transaction that gives it its effect. Where nothing is ahead of a
-- message, it takes effect at once and has no row here, but a number of the sequence.
CREATE TABLE inbox (
    seq         bigint      GENERATED ALWAYS AS IDENTITY, -- arrival number: the order of an account's messages
    id          uuid        NOT NULL, -- the message's own: one that is stored already comes in vain
    lane        smallint    NOT NULL CHECK (lane BETWEEN 0 AND 63), -- a worker locks a lane, and has its messages alone
    account_id  uuid        NOT NULL,
    kind        text        NOT NULL, -- discarded: an operator has given it up, and its payload says what it was
    payload     text        NOT NULL,
    fingerprint uuid,       -- of the request: tells its repetition from another one under the same key
    traceparent text        NOT NULL DEFAULT '',
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    stopped     boolean     NOT NULL DEFAULT false, -- its account stands still: a row of inbox_stops says why
    -- Whose it is, so that each tenant gets its share of a batch. '' is nobody's in particular, and has no share of its
    -- own. NULL is not known: while any such message is ready, all goes by arrival, since nothing tells of which
    -- tenant's queue it is a part.
    tenant      text,
    PRIMARY KEY (id, lane)
) WITH (
    -- A queue's rows are all dead soon: vacuum by count, at full speed.
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000,
    autovacuum_vacuum_cost_delay = 0
);

-- What workers claim from, by arrival and in shares of the tenants. The rows of a stopped account are outside both, so
-- that they cost the others nothing.
CREATE INDEX inbox_ready ON inbox (lane, seq) WHERE NOT stopped;
CREATE INDEX inbox_tenant ON inbox (tenant, lane, seq) WHERE NOT stopped AND tenant IS DISTINCT FROM '';
-- What is ready again when an account goes on.
CREATE INDEX inbox_stopped ON inbox (account_id, seq) WHERE stopped;

-- Accounts whose queue stands still because the message at its head failed unexpectedly. With a retry_at it is tried
-- again then; without one it is parked until an operator acts.
CREATE TABLE inbox_stops (
    account_id uuid        NOT NULL,
    lane       smallint    NOT NULL,
    message_id uuid        NOT NULL, -- of the head
    attempts   integer     NOT NULL,
    reason     text        NOT NULL, -- the last attempt's error
    probing    boolean     NOT NULL DEFAULT false, -- the head alone is ready; the others follow it
    retry_at   timestamptz,
    stopped_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (account_id, lane)
);

-- A queue is analyzed every few seconds under load, and nothing is looked for but by what is in an index: statistics of
-- the other columns, above all of the payloads, would be of no use.
ALTER TABLE inbox
    ALTER kind SET STATISTICS 0, ALTER payload SET STATISTICS 0, ALTER fingerprint SET STATISTICS 0,
    ALTER traceparent SET STATISTICS 0, ALTER received_at SET STATISTICS 0, ALTER tenant SET STATISTICS 0;

-- +goose Down
DROP TABLE inbox_stops;
DROP TABLE inbox;
