-- +goose Up

-- The lane of a batch's first operation: so what a batch has written for the chain is stored where the batch is. What an earlier
-- version still writes says none.
ALTER TABLE chain_unlinked ADD lane smallint NOT NULL DEFAULT 0, ALTER lane SET STATISTICS 0;

-- +goose Down
ALTER TABLE chain_unlinked DROP lane;
