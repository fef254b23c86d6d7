-- +goose Up

-- What a client has said of a cancellation, a rejection or a refund; a reason is a code. The version before has kept it as the
-- reason of what is being cancelled: there it is read from.
ALTER TABLE orders ADD note reason NOT NULL DEFAULT '', ALTER note SET STATISTICS 0;
ALTER TABLE order_history ADD note text NOT NULL DEFAULT '', ALTER note SET STATISTICS 0;

-- +goose Down
ALTER TABLE order_history DROP note;
ALTER TABLE orders DROP note;
