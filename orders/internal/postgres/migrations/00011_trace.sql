-- +goose Up

-- The trace of the request that placed the order, for who asks where the order is.
ALTER TABLE orders ADD trace_id uuid, ALTER trace_id SET STATISTICS 0;
-- When the broker got the event that brought a step.
ALTER TABLE order_history ADD published_at timestamptz, ALTER published_at SET STATISTICS 0;

-- +goose Down
ALTER TABLE order_history DROP published_at;
ALTER TABLE orders DROP trace_id;
