-- +goose Up

-- The Idempotency-Key with which an order was placed, for those who look for its request; '' where there was none. The order's ID is
-- derived from it, so nothing is found by it.
ALTER TABLE orders ADD key text NOT NULL DEFAULT '', ALTER key SET STATISTICS 0;

-- +goose Down
ALTER TABLE orders DROP key;
