package settlement

import (
	"encoding/json"
	"fmt"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/inbox"
)

// Message puts a request into the form in which the inbox keeps it, in the lane of its account.
func Message(r ledger.Request, traceparent string) (inbox.Message, error) {
	payload, err := json.Marshal(r)
	if err != nil {
		return inbox.Message{}, fmt.Errorf("encode request %s: %w", r.ID, err)
	}
	return inbox.Message{
		ID: r.ID, Lane: contract.Lane(r.AccountID), AccountID: r.AccountID, Kind: string(r.Kind), Payload: string(payload),
		Fingerprint: r.Fingerprint, Traceparent: traceparent,
	}, nil
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
	payload, err := json.Marshal(original{m.ID, m.Kind, json.RawMessage(m.Payload)})
	if err != nil {
		return m, false // what was encoded by Message can be encoded
	}
	m.ID, m.Kind, m.Payload = uuid.Must(uuid.NewV7()), repetition, string(payload)
	return m, true
}

// Request reads a request back from the inbox.
func Request(m inbox.Message) (ledger.Request, error) {
	m, discarded, err := inbox.Undiscard(m)
	if err != nil {
		return ledger.Request{}, err
	}
	if m.Kind == repetition {
		var o original
		if err := json.Unmarshal([]byte(m.Payload), &o); err != nil {
			return ledger.Request{}, fmt.Errorf("decode repetition %s: %w", m.ID, err)
		}
		m.ID, m.Kind, m.Payload = o.ID, o.Kind, string(o.Payload)
	}
	r := ledger.Request{
		ID: m.ID, Seq: m.Seq, Lane: m.Lane, AccountID: m.AccountID, Kind: ledger.Kind(m.Kind), Fingerprint: m.Fingerprint,
		ReceivedAt: m.ReceivedAt.UTC(), Traceparent: m.Traceparent, Discarded: discarded,
	}
	if err := json.Unmarshal([]byte(m.Payload), &r); err != nil {
		if discarded { // there is nothing to end: it goes without a trace but the log's
			return ledger.Request{ID: m.ID, Lane: m.Lane, AccountID: m.AccountID, Kind: ledger.Refusal, Discarded: true}, nil
		}
		return ledger.Request{}, fmt.Errorf("decode request %s: %w", m.ID, err)
	}
	return r, nil
}
