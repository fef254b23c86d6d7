package postgres

import (
	"testing"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
)

// expired is the message that ends what has a deadline.
func expired(d Deadline) Message {
	c := ledger.Expire{WaitID: d.ID}
	if d.Hold {
		c = ledger.Expire{HoldID: d.ID}
	}
	return message(ledger.Request{
		ID: contract.DerivedID("expiry", d.AccountID, d.ID.String()), Lane: contract.Lane(d.AccountID),
		AccountID: d.AccountID, Command: c,
	})
}

// However many deadlines are over at once, all are met at the next look.
func TestAllThatIsDueExpiresAtOnce(t *testing.T) {
	b := setup(t)
	const due = 2345
	b.exec(`
		INSERT INTO holds (id, lane, account_id, currency, amount, captured, status, expires_at, created_at)
		SELECT gen_random_uuid(), 1, gen_random_uuid(), 'RUB', 1, 0, 'open', now(), now() FROM generate_series(1, $1)`, due)
	if n, err := b.Expire(t.Context(), expired); n != due || err != nil {
		t.Errorf("%d of %d deadlines were met, %v", n, due, err)
	}
	if n := b.count(`SELECT count(*) FROM inbox WHERE kind = 'expire'`); n != due {
		t.Errorf("%d messages of %d deadlines", n, due)
	}
	if n, err := b.Expire(t.Context(), expired); n != 0 || err != nil {
		t.Errorf("%d deadlines were met again, %v", n, err)
	}
}

// Deadlines of holds and of what waits are met once they are over, and an account that stands still with the expiry of
// one keeps nobody back.
func TestWhatIsDueExpires(t *testing.T) {
	b := setup(t)
	account, stopped := uuid.New(), uuid.New()
	for _, id := range []uuid.UUID{account, stopped} {
		b.settle(b.request(id, ledger.CreateAccount{}), b.request(id, ledger.Deposit{Currency: "RUB", Amount: 10}),
			b.request(id, ledger.HoldFunds{Currency: "RUB", Amount: 7}),
			b.request(id, ledger.Withdrawal{Currency: "RUB", Amount: 20, WaitForFunds: true}),
			b.request(id, ledger.HoldFunds{Currency: "USDT", Amount: 1}))
	}
	if n, err := b.Expire(t.Context(), expired); n != 0 || err != nil {
		t.Errorf("%d deadlines were met before their time, %v", n, err)
	}
	b.exec(`UPDATE holds SET expires_at = now() - interval '1 second'`)
	b.exec(`UPDATE waits SET expires_at = now() - interval '1 second'`)
	b.accept(b.request(stopped, ledger.Expire{HoldID: uuid.New()}))
	b.exec(`UPDATE inbox SET stopped = true`)
	if n, err := b.Expire(t.Context(), expired); n != 2 || err != nil {
		t.Errorf("%d deadlines were met, %v", n, err)
	}
	if n := b.count(`SELECT count(*) FROM inbox WHERE account_id = $1`, account); n != 2 {
		t.Errorf("%d messages", n)
	}
}
