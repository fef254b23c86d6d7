-- +goose Up

-- An order that came without a key has none, for there is nothing that it could be compared with; nor has one whose texts were erased.
ALTER TABLE orders ALTER fingerprint DROP NOT NULL;

-- +goose Down
UPDATE orders SET fingerprint = '00000000-0000-0000-0000-000000000000' WHERE fingerprint IS NULL;
ALTER TABLE orders ALTER fingerprint SET NOT NULL;
