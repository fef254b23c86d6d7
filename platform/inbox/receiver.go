package inbox

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/platform/postgres"
)

// Receiver stores what a broker delivers. Record is the broker's form of a message.
type Receiver[Record any] struct {
	db     *sqlx.DB
	decode func(Record) (Message, error)
	dead   func(ctx context.Context, records []Record, reasons []error) error
	wake   func()
}

// NewReceiver makes a receiver. decode makes a message of a record, or says why it cannot be read; dead keeps what could
// not be read, with the reason, and returns once it is safe; wake is called after messages were stored.
func NewReceiver[Record any](db *sqlx.DB, decode func(Record) (Message, error),
	dead func(ctx context.Context, records []Record, reasons []error) error, wake func()) *Receiver[Record] {
	return &Receiver[Record]{db: db, decode: decode, dead: dead, wake: wake}
}

// Receive stores a fetched batch in one transaction. Once it has returned nil, the records may be acknowledged: each is
// stored or kept as a dead letter. After an error they must be delivered again.
func (r *Receiver[Record]) Receive(ctx context.Context, records []Record) error {
	var (
		messages   = make([]Message, 0, len(records))
		unreadable []Record
		reasons    []error
	)
	for _, record := range records {
		m, err := r.decode(record)
		if err != nil {
			unreadable, reasons = append(unreadable, record), append(reasons, err)
			continue
		}
		messages = append(messages, m)
	}
	if len(unreadable) > 0 {
		if err := r.dead(ctx, unreadable, reasons); err != nil {
			return fmt.Errorf("inbox: keep %d dead letters: %w", len(unreadable), err)
		}
	}
	if len(messages) == 0 {
		return nil
	}
	if err := postgres.InTx(ctx, r.db, func(tx *sqlx.Tx) error {
		_, err := Insert(ctx, tx, messages)
		return err
	}); err != nil {
		return err
	}
	r.wake()
	return nil
}
