-- +goose Up

-- ANALYZE reads 300 rows for each unit of the largest target, thirty thousand by default, which of a young table is all of it
-- every few seconds. Keys are spread evenly: a tenth tells as much about them.
ALTER TABLE balances
    ALTER account_id SET STATISTICS 10, ALTER lane SET STATISTICS 10, ALTER currency SET STATISTICS 10,
    ALTER actual SET STATISTICS 10, ALTER frozen SET STATISTICS 10, ALTER entries SET STATISTICS 10,
    ALTER waiting SET STATISTICS 10;
ALTER TABLE operations
    ALTER id SET STATISTICS 10, ALTER lane SET STATISTICS 10, ALTER seq SET STATISTICS 10,
    ALTER account_id SET STATISTICS 10, ALTER to_account_id SET STATISTICS 10;
ALTER TABLE entries
    ALTER account_id SET STATISTICS 10, ALTER lane SET STATISTICS 10, ALTER currency SET STATISTICS 10,
    ALTER number SET STATISTICS 10, ALTER created_at SET STATISTICS 10;
ALTER TABLE payments
    ALTER order_id SET STATISTICS 10, ALTER lane SET STATISTICS 10;

-- +goose Down
ALTER TABLE balances
    ALTER account_id SET STATISTICS -1, ALTER lane SET STATISTICS -1, ALTER currency SET STATISTICS -1,
    ALTER actual SET STATISTICS -1, ALTER frozen SET STATISTICS -1, ALTER entries SET STATISTICS -1,
    ALTER waiting SET STATISTICS -1;
ALTER TABLE operations
    ALTER id SET STATISTICS -1, ALTER lane SET STATISTICS -1, ALTER seq SET STATISTICS -1,
    ALTER account_id SET STATISTICS -1, ALTER to_account_id SET STATISTICS -1;
ALTER TABLE entries
    ALTER account_id SET STATISTICS -1, ALTER lane SET STATISTICS -1, ALTER currency SET STATISTICS -1,
    ALTER number SET STATISTICS -1, ALTER created_at SET STATISTICS -1;
ALTER TABLE payments
    ALTER order_id SET STATISTICS -1, ALTER lane SET STATISTICS -1;
