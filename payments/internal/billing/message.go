package billing

import (
	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
)

// Message puts a request into the form in which the inbox takes it, in the lane of its account.
func Message(r ledger.Request, traceparent string) postgres.Message {
	r.Lane, r.Traceparent = contract.Lane(r.AccountID), traceparent
	return postgres.Message{
		ID: r.ID, Lane: r.Lane, AccountID: r.AccountID, Kind: string(r.Kind()), Body: &r,
		Fingerprint: r.Fingerprint, Traceparent: traceparent,
	}
}

// Request is the request of a message as it arrived.
func Request(m postgres.Message) ledger.Request {
	r := *m.Body
	r.Seq, r.ReceivedAt = m.Seq, m.ReceivedAt.UTC()
	return r
}
