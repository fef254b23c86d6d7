-- +goose Up

-- The digits that amounts are stored with, of every currency that a service has known since it could have been used:
-- package currencies lets no service start that knows others.
CREATE TABLE currencies (
    code   text     PRIMARY KEY,
    digits smallint CHECK (digits BETWEEN 0 AND 18) -- NULL until a service starts that knows it
);

-- A service may have had amounts before it got this table: what is in use already. Its list says what that means.
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
