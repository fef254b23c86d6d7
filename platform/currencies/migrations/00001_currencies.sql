-- +goose Up

-- The digits that amounts are stored with, of every currency that a service has known since it could have been used.
CREATE TABLE currencies (
    code   text     PRIMARY KEY,
    digits smallint CHECK (digits BETWEEN 0 AND 18) -- null until a service starts with a currency of before this table
);

-- What is in use already. The list of a service says what it means.
-- +goose StatementBegin
DO $$
DECLARE
    used text;
BEGIN
    FOREACH used IN ARRAY ARRAY['orders', 'balances', 'operations'] LOOP
        IF EXISTS (SELECT FROM information_schema.columns WHERE table_schema = 'public' AND table_name = used AND column_name = 'currency') THEN
            EXECUTE format('INSERT INTO currencies SELECT DISTINCT currency FROM %I WHERE currency <> '''' ON CONFLICT DO NOTHING', used);
        END IF;
    END LOOP;
END $$;
-- +goose StatementEnd

-- +goose Down
DROP TABLE currencies;
