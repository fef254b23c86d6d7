-- +goose Up

-- Rows of many messages. Each message has a number of its own all the same: the row's is that of its first message.
CREATE TABLE outbox_rows (
    seq        bigint      GENERATED ALWAYS AS IDENTITY (INCREMENT BY 100),
    lane       smallint    NOT NULL,
    count      smallint    NOT NULL,
    messages   text        NOT NULL, -- of each the columns id to traceparent of outbox_parked, as netstrings
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (seq, lane)
) WITH (
    -- What fits into a page stays there, and nothing is compressed that is read once and soon.
    toast_tuple_target = 8160,
    -- A queue's rows are all dead soon: vacuum by count, at full speed.
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000,
    autovacuum_vacuum_cost_delay = 0,
    toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 1000, toast.autovacuum_vacuum_cost_delay = 0
);
ALTER TABLE outbox_rows
    ALTER messages SET STORAGE EXTERNAL,
    ALTER lane SET STATISTICS 0, ALTER count SET STATISTICS 0, ALTER messages SET STATISTICS 0, ALTER created_at SET STATISTICS 0;

INSERT INTO outbox_rows (seq, lane, count, messages, created_at) OVERRIDING SYSTEM VALUE
SELECT seq, lane, 1, string_agg(octet_length(field) || ':' || field || ',', '' ORDER BY n), created_at
FROM outbox, unnest(ARRAY[id::text, type, topic, key, subject, payload, traceparent]) WITH ORDINALITY AS f (field, n)
GROUP BY seq, lane, created_at;
SELECT setval(pg_get_serial_sequence('outbox_rows', 'seq'), last_value) FROM outbox_seq_seq;
DROP TABLE outbox;
ALTER TABLE outbox_rows RENAME TO outbox;
ALTER INDEX outbox_rows_pkey RENAME TO outbox_pkey;
ALTER SEQUENCE outbox_rows_seq_seq RENAME TO outbox_seq_seq;

-- +goose Down
-- +goose StatementBegin
DO $$
BEGIN
    IF EXISTS (SELECT FROM outbox) THEN
        RAISE EXCEPTION 'The outbox has messages: let them be published first.';
    END IF;
END
$$;
-- +goose StatementEnd
CREATE TABLE outbox_messages (
    seq         bigint      GENERATED ALWAYS AS IDENTITY,
    lane        smallint    NOT NULL,
    id          uuid        NOT NULL,
    type        text        NOT NULL,
    topic       text        NOT NULL,
    key         text        NOT NULL,
    subject     text        NOT NULL,
    payload     text        NOT NULL,
    traceparent text        NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (seq, lane)
) WITH (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000,
    autovacuum_vacuum_cost_delay = 0
);
ALTER TABLE outbox_messages
    ALTER id SET STATISTICS 0, ALTER type SET STATISTICS 0, ALTER topic SET STATISTICS 0, ALTER key SET STATISTICS 0,
    ALTER subject SET STATISTICS 0, ALTER payload SET STATISTICS 0, ALTER traceparent SET STATISTICS 0, ALTER created_at SET STATISTICS 0;
SELECT setval(pg_get_serial_sequence('outbox_messages', 'seq'), last_value + 100) FROM outbox_seq_seq;
DROP TABLE outbox;
ALTER TABLE outbox_messages RENAME TO outbox;
ALTER INDEX outbox_messages_pkey RENAME TO outbox_pkey;
ALTER SEQUENCE outbox_messages_seq_seq RENAME TO outbox_seq_seq;
