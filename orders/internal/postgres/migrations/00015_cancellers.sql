-- +goose Up

-- Who has cancelled an order, '' where nobody is told apart, and with which Idempotency-Key, '' where there was none. Whoever owns the
-- table can erase both; the service's role writes them once.
ALTER TABLE cancellations ADD subject text NOT NULL DEFAULT '', ADD key text NOT NULL DEFAULT '',
    ALTER subject SET STATISTICS 0, ALTER key SET STATISTICS 0;

-- +goose Down
ALTER TABLE cancellations DROP key, DROP subject;
