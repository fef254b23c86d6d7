-- +goose Up

-- Messages that a committed transaction wants published. The relay reads them in seq order, publishes them and deletes
-- them; the table is empty whenever the relay has caught up.
CREATE TABLE outbox (
    seq         bigint      GENERATED ALWAYS AS IDENTITY,
    lane        smallint    NOT NULL,
    id          uuid        NOT NULL, -- of the event: the same transition always has the same one
    type        text        NOT NULL,
    topic       text        NOT NULL,
    key         text        NOT NULL,
    subject     text        NOT NULL, -- the order or operation it tells of
    payload     text        NOT NULL,
    traceparent text        NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (seq, lane)
) WITH (
    -- A queue's rows are all dead soon: vacuum by count, at full speed.
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000,
    autovacuum_vacuum_cost_delay = 0
);

-- What the broker refused for good, and the later messages of the same topic and key, in their order.
CREATE TABLE outbox_parked (
    seq         bigint      NOT NULL,
    lane        smallint    NOT NULL,
    id          uuid        NOT NULL,
    type        text        NOT NULL,
    topic       text        NOT NULL,
    key         text        NOT NULL,
    subject     text        NOT NULL,
    payload     text        NOT NULL,
    traceparent text        NOT NULL,
    created_at  timestamptz NOT NULL,
    parked_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    reason      text        NOT NULL,
    PRIMARY KEY (seq, lane)
);
CREATE INDEX outbox_parked_key ON outbox_parked (topic, key);

-- +goose Down
DROP TABLE outbox_parked;
DROP TABLE outbox;
