-- +goose Up

-- Payments whose refund is told of again. An order that is paid waits for nothing, so orders never asks whether a refund was made
-- of which the broker has lost the event.
CREATE TABLE retellings (
    order_id   uuid        NOT NULL,
    lane       smallint    NOT NULL,
    told       smallint    NOT NULL DEFAULT 0, -- how often the refund was told of again
    due_at     timestamptz NOT NULL,           -- when to tell of it next
    PRIMARY KEY (order_id, lane)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX retellings_due ON retellings (due_at);

-- +goose Down
DROP TABLE retellings;
