-- +goose Up

-- A queue is analyzed every few seconds under load, and nothing is looked for but by what is in an index: statistics of the
-- other columns, above all of the payloads, would be of no use.
ALTER TABLE inbox
    ALTER kind SET STATISTICS 0, ALTER payload SET STATISTICS 0, ALTER fingerprint SET STATISTICS 0,
    ALTER traceparent SET STATISTICS 0, ALTER received_at SET STATISTICS 0;

-- +goose Down
ALTER TABLE inbox
    ALTER kind SET STATISTICS -1, ALTER payload SET STATISTICS -1, ALTER fingerprint SET STATISTICS -1,
    ALTER traceparent SET STATISTICS -1, ALTER received_at SET STATISTICS -1;
