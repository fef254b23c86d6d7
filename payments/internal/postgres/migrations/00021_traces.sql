-- +goose Up

-- The trace in which an operation began, where it is recorded: what acts on the operation later links to it.
ALTER TABLE operations ADD traceparent text NOT NULL DEFAULT '', ALTER traceparent SET STATISTICS 0;

-- +goose Down
ALTER TABLE operations DROP traceparent;
