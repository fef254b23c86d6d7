-- +goose Up

-- Messages that a committed transaction wants published. The relay reads the rows in seq order, publishes them and
-- deletes them; the table is empty whenever the relay has caught up. Messages of one transaction and one lane share
-- rows, since a row costs as much as the messages in it (docs/decisions/packed-outbox-rows.md).
CREATE TABLE outbox (
    -- Each message has a number: the row's is that of its first one, and those of the others follow. A row has at most
    -- 100.
    seq        bigint      GENERATED ALWAYS AS IDENTITY (INCREMENT BY 100),
    lane       smallint    NOT NULL,
    count      smallint    NOT NULL, -- of its messages
    -- Of each message the columns id to traceparent of outbox_parked, in that order, as netstrings. That of another
    -- tenant than the default one says tenant=NAME before them.
    messages   text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (seq, lane)
) WITH (
    -- What fits into a page stays there.
    toast_tuple_target = 8160,
    -- A queue's rows are all dead soon: vacuum by count, at full speed.
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000,
    autovacuum_vacuum_cost_delay = 0,
    toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 1000,
    toast.autovacuum_vacuum_cost_delay = 0
);

-- What a part of a topic does not take for now, outside everybody else's way: the messages whose keys Kafka's
-- partitioner gives this partition of so many. They are published in their order once it takes messages again.
CREATE TABLE outbox_waiting (
    topic      text        NOT NULL,
    partitions integer     NOT NULL, -- 1, and 0 as the partition, are a whole topic
    partition  integer     NOT NULL,
    seq        bigint      NOT NULL, -- from here on as in outbox
    lane       smallint    NOT NULL,
    count      smallint    NOT NULL,
    messages   text        NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (topic, partitions, partition, seq, lane)
) WITH (
    toast_tuple_target = 8160,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000,
    autovacuum_vacuum_cost_delay = 0
);

-- What the broker refused for good, and the later messages of the same topic and key, in their order: a message a row,
-- for operators to look at.
CREATE TABLE outbox_parked (
    seq         bigint      NOT NULL,
    lane        smallint    NOT NULL,
    id          uuid        NOT NULL, -- of the event: the same transition always has the same one
    type        text        NOT NULL,
    topic       text        NOT NULL,
    key         text        NOT NULL, -- messages of a key stay in their order
    subject     text        NOT NULL, -- the order or operation it tells of
    payload     text        NOT NULL,
    traceparent text        NOT NULL,
    created_at  timestamptz NOT NULL,
    parked_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    reason      text        NOT NULL,
    tenant      text        NOT NULL DEFAULT 'default',
    PRIMARY KEY (seq, lane)
);
CREATE INDEX outbox_parked_key ON outbox_parked (topic, key);

-- Nothing is compressed that is read once and soon. A queue is analyzed every few seconds under load, and nothing is
-- looked for but by its key: statistics of the other columns, above all of the payloads, would be of no use and cost as
-- much as the messages' deletion.
ALTER TABLE outbox
    ALTER messages SET STORAGE EXTERNAL,
    ALTER lane SET STATISTICS 0, ALTER count SET STATISTICS 0, ALTER messages SET STATISTICS 0,
    ALTER created_at SET STATISTICS 0;
ALTER TABLE outbox_waiting
    ALTER messages SET STORAGE EXTERNAL,
    ALTER lane SET STATISTICS 0, ALTER count SET STATISTICS 0, ALTER messages SET STATISTICS 0,
    ALTER created_at SET STATISTICS 0;

-- +goose Down
DROP TABLE outbox_parked;
DROP TABLE outbox_waiting;
DROP TABLE outbox;
