-- +goose Up

-- ANALYZE reads 300 rows for each unit of the largest target, thirty thousand by default, which of a young table is all of it
-- every few seconds. Keys are spread evenly: a tenth tells as much about them.
ALTER TABLE orders
    ALTER id SET STATISTICS 10, ALTER seq SET STATISTICS 10, ALTER account_id SET STATISTICS 10,
    ALTER reference SET STATISTICS 10, ALTER status SET STATISTICS 10, ALTER created_at SET STATISTICS 10;
ALTER TABLE order_history
    ALTER order_id SET STATISTICS 10, ALTER number SET STATISTICS 10;

-- +goose Down
ALTER TABLE orders
    ALTER id SET STATISTICS -1, ALTER seq SET STATISTICS -1, ALTER account_id SET STATISTICS -1,
    ALTER reference SET STATISTICS -1, ALTER status SET STATISTICS -1, ALTER created_at SET STATISTICS -1;
ALTER TABLE order_history
    ALTER order_id SET STATISTICS -1, ALTER number SET STATISTICS -1;
