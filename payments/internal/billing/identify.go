package billing

import (
	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/idempotency"
)

// Claim claims the key of an identified request for a new account. The client may choose the account's ID, so that the
// request's own ID, which is in the account's queue, does not tell a request for another account under the same key.
func Claim(r ledger.Request, scope, key string) idempotency.Claim {
	c := idempotency.Claim{
		Key: contract.DerivedID(scope, uuid.Nil, key), Fingerprint: r.Fingerprint.UUID,
		Makes: map[uuid.UUID]uuid.UUID{r.ID: r.Fingerprint.UUID},
	}
	c.Others = []uuid.UUID{c.Key} // the request without a chosen ID
	return c
}

// Identify gives a request its ID and its fingerprint. With a key of its client the ID is derived from it, its
// scope and the account that it is charged to, so that the same request repeated is the same message; without one it
// is fresh. A new account without an ID of the client's choice gets one in the same way.
func Identify(r *ledger.Request, scope, key string) error {
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
