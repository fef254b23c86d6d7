-- +goose Up

-- While a table is young it is analyzed often, for nothing but the columns by which rows are found: statistics of the others
-- would be of no use.
ALTER TABLE operations
    ALTER operation SET STATISTICS 0, ALTER hold_id SET STATISTICS 0, ALTER order_id SET STATISTICS 0,
    ALTER command_id SET STATISTICS 0, ALTER currency SET STATISTICS 0, ALTER amount SET STATISTICS 0,
    ALTER status SET STATISTICS 0, ALTER reason SET STATISTICS 0, ALTER reference SET STATISTICS 0,
    ALTER description SET STATISTICS 0, ALTER fingerprint SET STATISTICS 0, ALTER created_at SET STATISTICS 0,
    ALTER settled_at SET STATISTICS 0;
ALTER TABLE entries
    ALTER operation_id SET STATISTICS 0, ALTER operation SET STATISTICS 0, ALTER amount SET STATISTICS 0,
    ALTER frozen SET STATISTICS 0, ALTER balance_after SET STATISTICS 0, ALTER frozen_after SET STATISTICS 0;
ALTER TABLE payments
    ALTER account_id SET STATISTICS 0, ALTER currency SET STATISTICS 0, ALTER amount SET STATISTICS 0,
    ALTER capture SET STATISTICS 0, ALTER status SET STATISTICS 0, ALTER reason SET STATISTICS 0,
    ALTER captured SET STATISTICS 0, ALTER refunded SET STATISTICS 0, ALTER version SET STATISTICS 0,
    ALTER created_at SET STATISTICS 0, ALTER updated_at SET STATISTICS 0, ALTER previous SET STATISTICS 0;

-- +goose Down
ALTER TABLE operations
    ALTER operation SET STATISTICS -1, ALTER hold_id SET STATISTICS -1, ALTER order_id SET STATISTICS -1,
    ALTER command_id SET STATISTICS -1, ALTER currency SET STATISTICS -1, ALTER amount SET STATISTICS -1,
    ALTER status SET STATISTICS -1, ALTER reason SET STATISTICS -1, ALTER reference SET STATISTICS -1,
    ALTER description SET STATISTICS -1, ALTER fingerprint SET STATISTICS -1, ALTER created_at SET STATISTICS -1,
    ALTER settled_at SET STATISTICS -1;
ALTER TABLE entries
    ALTER operation_id SET STATISTICS -1, ALTER operation SET STATISTICS -1, ALTER amount SET STATISTICS -1,
    ALTER frozen SET STATISTICS -1, ALTER balance_after SET STATISTICS -1, ALTER frozen_after SET STATISTICS -1;
ALTER TABLE payments
    ALTER account_id SET STATISTICS -1, ALTER currency SET STATISTICS -1, ALTER amount SET STATISTICS -1,
    ALTER capture SET STATISTICS -1, ALTER status SET STATISTICS -1, ALTER reason SET STATISTICS -1,
    ALTER captured SET STATISTICS -1, ALTER refunded SET STATISTICS -1, ALTER version SET STATISTICS -1,
    ALTER created_at SET STATISTICS -1, ALTER updated_at SET STATISTICS -1, ALTER previous SET STATISTICS -1;
