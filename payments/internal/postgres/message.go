package postgres

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/inbox"
)

// Message is a request in the inbox. Its Kind is the request's, or Repetition.
type Message = inbox.Message[*ledger.Request]

// Kinds of stored messages beside those of requests.
const (
	// Repetition stands for a command that came again while it was still waiting. Its request is that of the command.
	Repetition = "repetition"
	// Unreadable is the kind of what could be neither read nor kept as a dead letter: its payload has a field "reason".
	// It is parked, and never takes effect.
	Unreadable = "unreadable"
)

// codec knows how requests are stored. Old versions stored them the same way, and can read what this one stores.
type codec struct{}

// original is the payload of a Repetition.
type original struct {
	ID      uuid.UUID       `json:"id"`
	Kind    string          `json:"kind"`
	Payload json.RawMessage `json:"payload"`
}

// Encode implements inbox.Codec.
func (codec) Encode(m Message) (string, error) {
	payload, err := json.Marshal(m.Body)
	if err == nil && m.Kind == Repetition {
		payload, err = json.Marshal(original{m.Body.ID, string(m.Body.Kind()), payload})
	}
	return string(payload), err
}

// Decode implements inbox.Codec.
func (codec) Decode(m inbox.Stored) (*ledger.Request, error) {
	r := &ledger.Request{}
	if m.Kind == Repetition {
		var o original
		if err := json.Unmarshal([]byte(m.Body), &o); err != nil {
			return nil, fmt.Errorf("decode repetition %s: %w", m.ID, err)
		}
		m.ID, m.Kind, m.Body = o.ID, o.Kind, string(o.Payload)
	}
	var err error
	if m.Kind == Unreadable {
		err = unreadable(m)
	} else if err = r.Decode(ledger.Kind(m.Kind), []byte(m.Body)); err != nil {
		err = fmt.Errorf("decode request %s: %w", m.ID, err)
	}
	if err != nil {
		if !m.Discarded {
			return nil, err
		}
		// There is nothing to end: it goes without a trace but the log's.
		*r = ledger.Request{Command: ledger.Refusal{}}
	}
	r.ID, r.Lane, r.AccountID = m.ID, m.Lane, m.AccountID
	r.Fingerprint, r.Traceparent, r.Discarded = m.Fingerprint, m.Traceparent, m.Discarded
	return r, nil
}

// unreadable is why a message of the kind Unreadable has no effect.
func unreadable(m inbox.Stored) error {
	var record struct {
		Reason string `json:"reason"`
	}
	if err := json.Unmarshal([]byte(m.Body), &record); err != nil {
		return fmt.Errorf("decode unreadable record %s: %w", m.ID, err)
	}
	return errors.New(record.Reason)
}
