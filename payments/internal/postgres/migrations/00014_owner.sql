-- +goose Up

-- The owner of an account is covered by the chain as a hash with a salt. Whoever erases the owner erases the salt too.
ALTER TABLE accounts ADD owner_salt uuid, ADD owner_hash uuid,
    ALTER owner_salt SET STATISTICS 0, ALTER owner_hash SET STATISTICS 0;

-- +goose Down
ALTER TABLE accounts DROP owner_hash, DROP owner_salt;
