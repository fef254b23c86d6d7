package settlement

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/inbox"
	"github.com/altyn-pay/altyn/platform/kafka"
)

// Message puts a request into the form in which the inbox takes it, in the lane of its account.
func Message(r ledger.Request, traceparent string) inbox.Message {
	return inbox.Message{
		ID: r.ID, Lane: contract.Lane(r.AccountID), AccountID: r.AccountID, Kind: string(r.Kind), Body: r,
		Fingerprint: r.Fingerprint, Traceparent: traceparent,
	}
}

// repetition is the kind of message that stands for a command which came again while it was still waiting.
const repetition = "repetition"

// original is the payload of a repetition.
type original struct {
	ID      uuid.UUID       `json:"id"`
	Kind    string          `json:"kind"`
	Payload json.RawMessage `json:"payload"`
}

// Repeated is what is stored in place of a message that is waiting already: nothing for an event, and for a command its
// repetition, which is behind the command in the queue, meets its record there and is answered like any repeated command.
func Repeated(m inbox.Message) (inbox.Message, bool) {
	if !m.Fingerprint.Valid {
		return m, false
	}
	payload, err := json.Marshal(m.Body)
	if err != nil {
		return m, false // a request can be encoded
	}
	m.Body, m.ID, m.Kind = original{m.ID, m.Kind, payload}, uuid.Must(uuid.NewV7()), repetition
	return m, true
}

// unreadable is the kind of what could be neither read nor kept as a dead letter. It is parked, and never takes effect.
const unreadable = "unreadable"

// unreadableRecord is the payload of such a message: the record of the broker as it came.
type unreadableRecord struct {
	Reason    string         `json:"reason"`
	Topic     string         `json:"topic"`
	Partition int            `json:"partition"`
	Offset    int64          `json:"offset"`
	Key       []byte         `json:"key"`
	Value     []byte         `json:"value"`
	Headers   []kafka.Header `json:"headers"`
}

// Unreadable is what is parked of a record, in the queue of an account that is nobody's. It is the same message however often
// the record is delivered.
func Unreadable(record kafka.Message, reason error) (inbox.Message, error) {
	payload, err := json.Marshal(unreadableRecord{
		Reason: reason.Error(), Topic: record.Topic, Partition: record.Partition, Offset: record.Offset, Key: record.Key, Value: record.Value, Headers: record.Headers,
	})
	if err != nil {
		return inbox.Message{}, fmt.Errorf("encode unreadable record: %w", err)
	}
	id := contract.DerivedID(unreadable, uuid.Nil, fmt.Sprintf("%s/%d/%d", record.Topic, record.Partition, record.Offset))
	return inbox.Message{ID: id, AccountID: id, Lane: contract.Lane(id), Kind: unreadable, Payload: string(payload)}, nil
}

// Request is the request of a message that Message has made, whether or not it was stored meanwhile.
func Request(m inbox.Message) (ledger.Request, error) {
	m, discarded, err := inbox.Undiscard(m)
	if err != nil {
		return ledger.Request{}, err
	}
	if m.Kind == repetition {
		o, ok := m.Body.(original)
		if !ok {
			if err := json.Unmarshal([]byte(m.Payload), &o); err != nil {
				return ledger.Request{}, fmt.Errorf("decode repetition %s: %w", m.ID, err)
			}
		}
		m.ID, m.Kind, m.Payload = o.ID, o.Kind, string(o.Payload)
	}
	if m.Kind == unreadable {
		if discarded {
			return ledger.Request{ID: m.ID, Lane: m.Lane, AccountID: m.AccountID, Kind: ledger.Refusal, Discarded: true}, nil
		}
		var record unreadableRecord
		if err := json.Unmarshal([]byte(m.Payload), &record); err != nil {
			return ledger.Request{}, fmt.Errorf("decode unreadable record %s: %w", m.ID, err)
		}
		return ledger.Request{}, errors.New(record.Reason)
	}
	r, ok := m.Body.(ledger.Request)
	if !ok {
		if err := json.Unmarshal([]byte(m.Payload), &r); err != nil {
			if discarded { // there is nothing to end: it goes without a trace but the log's
				return ledger.Request{ID: m.ID, Lane: m.Lane, AccountID: m.AccountID, Kind: ledger.Refusal, Discarded: true}, nil
			}
			return ledger.Request{}, fmt.Errorf("decode request %s: %w", m.ID, err)
		}
	}
	r.ID, r.Seq, r.Lane, r.AccountID, r.Kind, r.Fingerprint = m.ID, m.Seq, m.Lane, m.AccountID, ledger.Kind(m.Kind), m.Fingerprint
	r.ReceivedAt, r.Traceparent, r.Discarded = m.ReceivedAt.UTC(), m.Traceparent, discarded
	return r, nil
}
