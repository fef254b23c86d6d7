// Package parked is what a service has set aside for an operator: a message that failed again and again for a reason
// that is not its client's, and behind which one account or one key stands still. An operator mends the cause and then
// redrives the message, which gives it another try in its old place, or discards it, so that what is behind it goes on.
// Each place that parks is a Source; package operators serves all sources of a service together.
package parked

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/platform/contract"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// Bounds of what an item shows, in bytes and in characters: a page of items is held in memory and sent at once.
const (
	MaxPayload = 16 << 10 // a larger payload is left out
	MaxReason  = 1000     // a longer reason is cut
)

// Item is something that is parked. What waits behind it is not listed.
type Item struct {
	// of the message; of the source events, a name of its own
	ID     uuid.UUID `db:"id" json:"id" swaggertype:"string" format:"uuid"`
	Source string    `db:"-" json:"source" enums:"inbox,outbox,events"`
	Kind   string    `db:"kind" json:"kind" example:"payment"`
	// whose queue stands still
	AccountID uuid.UUID `db:"account_id" json:"account_id,omitzero" validate:"optional" swaggertype:"string" format:"uuid"`
	// why it failed the last time
	Reason   string `db:"reason" json:"reason" example:"pq: relation does not exist"`
	Attempts int    `db:"attempts" json:"attempts" example:"8"`
	// left out when it is larger than 16 KiB
	Payload  json.RawMessage `db:"-" json:"payload,omitempty" swaggertype:"object"`
	ParkedAt contract.Time   `db:"parked_at" json:"parked_at" format:"date-time" example:"2026-01-02T15:04:05.123456Z"`
} // @name ParkedItem

// Show completes an item that was read from a table. payload is its text, or nil to leave it out; what is no JSON is
// shown as a string.
func (i Item) Show(source string, payload []byte) Item {
	i.Source = source
	switch {
	case payload == nil:
	case json.Valid(payload):
		i.Payload = bytes.Clone(payload)
	default:
		i.Payload, _ = json.Marshal(pg.Storable(string(payload))) // a string can always be encoded
	}
	return i
}

// Position is a place in the list, which is sorted by time and ID: after an item.
type Position struct {
	At time.Time `json:"at"`
	ID uuid.UUID `json:"id"`
}

// Position returns the item's place in the list.
func (i Item) Position() Position { return Position{time.Time(i.ParkedAt).UTC(), i.ID} }

// Compare sorts items as the sources do.
func Compare(a, b Item) int {
	return cmp.Or(time.Time(a.ParkedAt).Compare(time.Time(b.ParkedAt)), bytes.Compare(a.ID[:], b.ID[:]))
}

// The refusals of a source.
var (
	// ErrNotFound says that nothing with this ID is parked. It may have been redriven a moment ago.
	ErrNotFound = errors.New("nothing is parked under this ID")
	// ErrNotDiscardable says that the item must take effect, or money would be left where it does not belong.
	ErrNotDiscardable = errors.New("this cannot be discarded")
)

// Record writes down that an operator does something to an item, which it gets as it was, in the transaction that does
// it. Its error undoes both. A source may have to call it more than once, with another transaction.
type Record func(ctx context.Context, tx *sqlx.Tx, item Item) error

// Source is a place where things are parked.
type Source interface {
	// Parked lists what is parked after a position, sorted by ParkedAt and ID, at most limit items.
	Parked(ctx context.Context, after Position, limit int) ([]Item, error)
	// Redrive gives the item another try, in its old place before what waits behind it. It returns the item as it was, or
	// as it is now if the try was made at once and failed.
	Redrive(ctx context.Context, id uuid.UUID, record Record) (Item, error)
	// Discard gives the item up and lets what waits behind it go on. It returns the item as it was.
	Discard(ctx context.Context, id uuid.UUID, reason string, record Record) (Item, error)
}
