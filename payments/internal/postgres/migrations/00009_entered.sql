-- +goose Up

-- When the last entry of a balance was made. The next one is not before it, even where the clock has stepped back: so times run
-- with the numbers, and a time is found among them.
ALTER TABLE balances ADD entered_at timestamptz NOT NULL DEFAULT '-infinity', ALTER entered_at SET STATISTICS 0;

-- The vaults of the system accounts may be negative too.
ALTER TABLE balances DROP CONSTRAINT balances_not_negative,
    ADD CONSTRAINT balances_not_negative CHECK (actual >= 0 OR account_id IN
        ('00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-000000000002')
        OR account_id BETWEEN '00000000-0000-8000-0000-000000000000' AND '00000000-0000-80ff-ffff-ffffffffffff') NOT VALID;

-- +goose Down
ALTER TABLE balances DROP CONSTRAINT balances_not_negative,
    ADD CONSTRAINT balances_not_negative CHECK (actual >= 0 OR account_id IN
        ('00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-000000000002')) NOT VALID;
ALTER TABLE balances DROP entered_at;
