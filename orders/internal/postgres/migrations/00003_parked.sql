-- +goose Up

-- A name by which operators redrive or discard a parked event. Where it came from stays its key, so that an event which
-- is delivered and parked again is the same one.
ALTER TABLE parked_events ADD COLUMN id uuid NOT NULL DEFAULT gen_random_uuid();
CREATE UNIQUE INDEX parked_events_id ON parked_events (id);

-- +goose Down
ALTER TABLE parked_events DROP COLUMN id;
