-- +goose Up

-- A queue is analyzed every few seconds under load, and nothing is looked for but by its key: statistics of the other columns,
-- above all of the payloads, would be of no use and cost as much as the messages' deletion.
ALTER TABLE outbox
    ALTER id SET STATISTICS 0, ALTER type SET STATISTICS 0, ALTER topic SET STATISTICS 0, ALTER key SET STATISTICS 0,
    ALTER subject SET STATISTICS 0, ALTER payload SET STATISTICS 0, ALTER traceparent SET STATISTICS 0, ALTER created_at SET STATISTICS 0;

-- +goose Down
ALTER TABLE outbox
    ALTER id SET STATISTICS -1, ALTER type SET STATISTICS -1, ALTER topic SET STATISTICS -1, ALTER key SET STATISTICS -1,
    ALTER subject SET STATISTICS -1, ALTER payload SET STATISTICS -1, ALTER traceparent SET STATISTICS -1, ALTER created_at SET STATISTICS -1;
