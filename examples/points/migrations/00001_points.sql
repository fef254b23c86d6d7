-- +goose Up

-- The permanent record of each message: one that comes again is recognised by it.
CREATE TABLE purchases (
    id          uuid   PRIMARY KEY,
    customer_id uuid   NOT NULL,
    points      bigint NOT NULL
);

CREATE TABLE totals (
    customer_id uuid   PRIMARY KEY,
    points      bigint NOT NULL
);

-- +goose Down
DROP TABLE totals;
DROP TABLE purchases;
