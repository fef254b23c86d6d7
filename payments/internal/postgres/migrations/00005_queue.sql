-- +goose Up

-- With the lane, which every look at a queue names, the index alone has the order: however long the queue, its head is read
-- and no more.
DROP INDEX waits_queue;
CREATE INDEX waits_queue ON waits (account_id, currency, lane, seq) WHERE what = 'waiting_for_funds';

-- +goose Down
DROP INDEX waits_queue;
CREATE INDEX waits_queue ON waits (account_id, currency, seq) WHERE what = 'waiting_for_funds';
