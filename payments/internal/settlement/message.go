package settlement

import (
	"encoding/json"
	"fmt"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/inbox"
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
