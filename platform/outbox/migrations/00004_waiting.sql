-- +goose Up

-- What a part of a topic does not take for now, outside everybody else's way: the messages whose keys Kafka's partitioner gives
-- this partition of so many. They are published in their order once it takes messages again. 1 and 0 are a whole topic.
CREATE TABLE outbox_waiting (
    topic      text        NOT NULL,
    partitions integer     NOT NULL,
    partition  integer     NOT NULL,
    seq        bigint      NOT NULL,
    lane       smallint    NOT NULL,
    count      smallint    NOT NULL,
    messages   text        NOT NULL, -- as in outbox
    created_at timestamptz NOT NULL,
    PRIMARY KEY (topic, partitions, partition, seq, lane)
) WITH (
    toast_tuple_target = 8160,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000,
    autovacuum_vacuum_cost_delay = 0
);
ALTER TABLE outbox_waiting
    ALTER messages SET STORAGE EXTERNAL,
    ALTER lane SET STATISTICS 0, ALTER count SET STATISTICS 0, ALTER messages SET STATISTICS 0, ALTER created_at SET STATISTICS 0;

-- +goose Down
INSERT INTO outbox (seq, lane, count, messages, created_at) OVERRIDING SYSTEM VALUE
SELECT seq, lane, count, messages, created_at FROM outbox_waiting;
DROP TABLE outbox_waiting;
