-- +goose Up

-- While a table is young it is analyzed often, for nothing but the columns by which rows are found: statistics of the others
-- would be of no use.
ALTER TABLE orders
    ALTER amount SET STATISTICS 0, ALTER currency SET STATISTICS 0, ALTER description SET STATISTICS 0,
    ALTER capture SET STATISTICS 0, ALTER await_inventory SET STATISTICS 0, ALTER on_insufficient SET STATISTICS 0,
    ALTER expires_at SET STATISTICS 0, ALTER reason SET STATISTICS 0, ALTER captured SET STATISTICS 0,
    ALTER refunded SET STATISTICS 0, ALTER version SET STATISTICS 0, ALTER payment_version SET STATISTICS 0,
    ALTER fingerprint SET STATISTICS 0, ALTER updated_at SET STATISTICS 0;
ALTER TABLE order_history
    ALTER at SET STATISTICS 0, ALTER from_status SET STATISTICS 0, ALTER to_status SET STATISTICS 0,
    ALTER reason SET STATISTICS 0, ALTER event_id SET STATISTICS 0;

-- +goose Down
ALTER TABLE orders
    ALTER amount SET STATISTICS -1, ALTER currency SET STATISTICS -1, ALTER description SET STATISTICS -1,
    ALTER capture SET STATISTICS -1, ALTER await_inventory SET STATISTICS -1, ALTER on_insufficient SET STATISTICS -1,
    ALTER expires_at SET STATISTICS -1, ALTER reason SET STATISTICS -1, ALTER captured SET STATISTICS -1,
    ALTER refunded SET STATISTICS -1, ALTER version SET STATISTICS -1, ALTER payment_version SET STATISTICS -1,
    ALTER fingerprint SET STATISTICS -1, ALTER updated_at SET STATISTICS -1;
ALTER TABLE order_history
    ALTER at SET STATISTICS -1, ALTER from_status SET STATISTICS -1, ALTER to_status SET STATISTICS -1,
    ALTER reason SET STATISTICS -1, ALTER event_id SET STATISTICS -1;
