-- +goose Up

-- Where the reply to a command that waits is awaited too, since the command was repeated with another reply_to. A row is
-- deleted when the reply is sent.
CREATE TABLE reply_topics (
    operation_id uuid     NOT NULL,
    lane         smallint NOT NULL,
    topic        text     NOT NULL,
    PRIMARY KEY (operation_id, lane, topic)
);

-- +goose Down
DROP TABLE reply_topics;
