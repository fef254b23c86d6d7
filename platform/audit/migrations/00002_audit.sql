-- +goose Up

-- How far the audit has come (package audit), in one row. The processes take turns: whoever takes a step puts next_at
-- off meanwhile.
CREATE TABLE audit (
    one        boolean     PRIMARY KEY DEFAULT true CHECK (one),
    table_name text        NOT NULL, -- that the pass is at; '' between two passes
    page       bigint      NOT NULL, -- of the table, to look at next
    after      bigint      NOT NULL, -- up to where the record of changes was looked at
    began_at   timestamptz,          -- the last pass
    ended_at   timestamptz,          -- the last pass that has ended
    current_at timestamptz,          -- when there was no change left to look at
    next_at    timestamptz NOT NULL, -- when to go on
    beside     bigint[]    NOT NULL DEFAULT '{}' -- the pages to look at next of the tables beside that one
);

-- What is wrong, until a later look finds it right.
CREATE TABLE audit_findings (
    rule     text        NOT NULL, -- its name, such as balance_waits
    id       uuid        NOT NULL, -- of what breaks it
    detail   text        NOT NULL,
    found_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (rule, id, detail)
);

-- The row is there from the start, and stays.
-- +goose StatementBegin
DO $$
BEGIN
    EXECUTE format('REVOKE INSERT, DELETE ON audit FROM %I', current_setting('altyn.service_role'));
END
$$;
-- +goose StatementEnd
INSERT INTO audit (table_name, page, after, next_at) VALUES ('', 0, 0, '-infinity');

-- +goose Down
DROP TABLE audit_findings;
DROP TABLE audit;
