-- +goose Up

-- Accepted messages that have not taken effect yet, each in the queue of its account. A row is deleted by the
-- transaction that gives it its effect.
CREATE TABLE inbox (
    seq         bigint      GENERATED ALWAYS AS IDENTITY, -- arrival number: the order of an account's messages
    id          uuid        NOT NULL,
    lane        smallint    NOT NULL CHECK (lane BETWEEN 0 AND 63),
    account_id  uuid        NOT NULL,
    kind        text        NOT NULL,
    payload     text        NOT NULL,
    fingerprint uuid,
    traceparent text        NOT NULL DEFAULT '',
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    stopped     boolean     NOT NULL DEFAULT false,
    PRIMARY KEY (id, lane)
) WITH (
    -- A queue's rows are all dead soon: vacuum by count, at full speed.
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000,
    autovacuum_vacuum_cost_delay = 0
);

-- What workers claim from. The rows of a stopped account are outside it, so that they cost the others nothing.
CREATE INDEX inbox_ready ON inbox (lane, seq) WHERE NOT stopped;
CREATE INDEX inbox_stopped ON inbox (account_id, seq) WHERE stopped;

-- Accounts whose queue stands still because the message at its head failed unexpectedly. With a retry_at it is tried
-- again then; without one it is parked until an operator acts. While probing is true, the head alone is ready.
CREATE TABLE inbox_stops (
    account_id uuid        NOT NULL,
    lane       smallint    NOT NULL,
    message_id uuid        NOT NULL,
    attempts   integer     NOT NULL,
    reason     text        NOT NULL,
    probing    boolean     NOT NULL DEFAULT false,
    retry_at   timestamptz,
    stopped_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (account_id, lane)
);

-- +goose Down
DROP TABLE inbox_stops;
DROP TABLE inbox;
