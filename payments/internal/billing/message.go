package billing

import (
	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
)

// Message makes the inbox message of a request, in the lane of its account.
func Message(r ledger.Request, traceparent string) postgres.Message {
	r.Lane, r.Traceparent = contract.Lane(r.AccountID), traceparent
	return postgres.Message{
		ID: r.ID, Lane: r.Lane, AccountID: r.AccountID, Kind: string(r.Kind()), Body: &r,
		Fingerprint: r.Fingerprint, Traceparent: traceparent,
	}
}

// Request reads the request of a message that the inbox hands over.
func Request(m postgres.Message) ledger.Request {
	r := *m.Body
	r.Seq, r.ReceivedAt = m.Seq, m.ReceivedAt.UTC()
	return r
}
