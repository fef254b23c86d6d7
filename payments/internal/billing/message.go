package billing

import (
	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/idempotency"
)

// Message makes the inbox message of a request, in the lane of its account. It is of the tenant that asks; where the
// system does, the caller says whose the account is.
func Message(r ledger.Request, traceparent string) postgres.Message {
	r.Lane, r.Traceparent = contract.Lane(r.AccountID), traceparent
	return postgres.Message{
		ID: r.ID, Lane: r.Lane, AccountID: r.AccountID, Kind: string(r.Kind()), Body: &r,
		Fingerprint: r.Fingerprint, Traceparent: traceparent, Tenant: r.By.Tenant,
	}
}

// Request reads the request of a message that the inbox hands over.
func Request(m postgres.Message) ledger.Request {
	r := *m.Body
	r.Seq, r.ReceivedAt = m.Seq, m.ReceivedAt.UTC()
	return r
}

// Claim claims the key of an identified request for a new account. The ID of such a request depends on the account's,
// which the client may choose: it does not tell that the same key came with another account before.
func Claim(r ledger.Request, scope, key string) idempotency.Claim {
	c := idempotency.Claim{
		Key: contract.DerivedID(r.By.Namespace()+scope, uuid.Nil, key), Fingerprint: r.Fingerprint.UUID,
		Makes: map[uuid.UUID]uuid.UUID{r.ID: r.Fingerprint.UUID},
	}
	c.Others = []uuid.UUID{c.Key} // the request without a chosen ID
	return c
}

// Identify gives a request its ID and its fingerprint. With a key of the client the ID is derived from the key, its
// scope and the account that is charged, so that the same request repeated is the same message; without a key the ID
// is fresh. A new account for which the client has chosen no ID gets one in the same way. Keys are those of who asks:
// of a tenant, or of its subject where the request is restricted to that.
func Identify(r *ledger.Request, scope, key string) error {
	scope = r.By.Namespace() + scope
	if key == "" {
		r.ID = uuid.Must(uuid.NewV7())
	} else {
		r.ID = contract.DerivedID(scope, r.AccountID, key)
	}
	if r.Kind() == ledger.KindCreateAccount && r.AccountID == uuid.Nil {
		if key == "" {
			r.AccountID = uuid.Must(uuid.NewV7())
		} else {
			r.AccountID = contract.DerivedID(scope+"#account", uuid.Nil, key)
		}
	}
	r.Lane = contract.Lane(r.AccountID)
	if key == "" {
		return nil
	}
	// The fingerprint is of what was asked, not of where it came in and where the answer goes.
	digest, err := r.Digest()
	r.Fingerprint = uuid.NullUUID{UUID: digest, Valid: err == nil}
	return err
}
