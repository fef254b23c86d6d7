package broker

import (
	"encoding/json"
	"fmt"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/inbox"
	"github.com/altyn-pay/altyn/platform/kafka"
)

// Repeated is what is stored in place of a message that is waiting already: nothing for an event, and for a command
// its repetition, which is behind the command in the queue, meets its record there and is answered like any repeated
// command.
func Repeated(m postgres.Message) (postgres.Message, bool) {
	if !m.Fingerprint.Valid {
		return m, false
	}
	m.ID, m.Kind = uuid.Must(uuid.NewV7()), postgres.Repetition
	return m, true
}

// unreadableRecord is what is stored of a record that can be neither read nor kept as a dead letter: the record as it
// came.
type unreadableRecord struct {
	Reason    string         `json:"reason"`
	Topic     string         `json:"topic"`
	Partition int            `json:"partition"`
	Offset    int64          `json:"offset"`
	Key       []byte         `json:"key"`
	Value     []byte         `json:"value"`
	Headers   []kafka.Header `json:"headers"`
}

// Unreadable is what is parked of a record, in the queue of an account that is nobody's. It is the same message
// however often the record is delivered.
func Unreadable(record kafka.Message, reason error) (inbox.Stored, error) {
	payload, err := json.Marshal(unreadableRecord{
		Reason: reason.Error(), Topic: record.Topic, Partition: record.Partition, Offset: record.Offset,
		Key: record.Key, Value: record.Value, Headers: record.Headers,
	})
	if err != nil {
		return inbox.Stored{}, fmt.Errorf("encode unreadable record: %w", err)
	}
	id := contract.DerivedID(postgres.Unreadable, uuid.Nil, record.Place())
	return inbox.Stored{
		ID: id, AccountID: id, Lane: contract.Lane(id), Kind: postgres.Unreadable, Body: string(payload),
	}, nil
}
