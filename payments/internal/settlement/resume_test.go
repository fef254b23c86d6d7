package settlement

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/inbox"
	"github.com/altyn-pay/altyn/platform/money"
	platform "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/postgrestest"
)

// Many accounts that are credited at once have their queues served together, a part of each at a time, until they are empty.
func TestManyQueuesAreServedTogether(t *testing.T) {
	t.Parallel()
	const accounts, orders = 600, 6
	db := postgrestest.Database(t, "payments", postgres.Migrations()...)
	currencies, err := money.LoadCurrencies("")
	if err != nil {
		t.Fatal(err)
	}
	s := New(postgres.New(db.Service), currencies, prometheus.NewRegistry(), func(Result) {})
	seq := int64(0)
	settle := func(batch []inbox.Message) {
		t.Helper()
		for i := range batch {
			seq++
			batch[i].Seq, batch[i].ReceivedAt = seq, time.Now()
		}
		if err := platform.InTx(t.Context(), db.Service, func(tx *sqlx.Tx) error {
			_, err := s.Settle(t.Context(), tx, batch)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	count := func(query string) (n int) {
		t.Helper()
		if err := db.Owner.GetContext(t.Context(), &n, query); err != nil {
			t.Fatal(err)
		}
		return n
	}
	var create, pay, deposit []inbox.Message
	message := func(r ledger.Request) inbox.Message {
		return Message(r, "")
	}
	for range accounts {
		id := uuid.New()
		create = append(create, message(ledger.Request{ID: uuid.New(), AccountID: id, Kind: ledger.CreateAccount}))
		for range orders {
			order := uuid.New()
			pay = append(pay, message(ledger.Request{ID: order, OrderID: order, AccountID: id, Kind: ledger.Payment, Currency: "RUB", Amount: 10,
				Capture: contract.CaptureAutomatic, WaitForFunds: true, AcceptedAt: time.Now()}))
		}
		deposit = append(deposit, message(ledger.Request{ID: uuid.New(), AccountID: id, Kind: ledger.Deposit, Currency: "RUB", Amount: 10 * orders}))
	}
	settle(create)
	settle(pay)
	settle(deposit)
	for rounds := 0; ; rounds++ {
		var resumes []inbox.Message
		if err := db.Owner.SelectContext(t.Context(), &resumes, `DELETE FROM inbox RETURNING id, lane, account_id, kind, payload`); err != nil {
			t.Fatal(err)
		}
		if len(resumes) == 0 {
			if rounds < 2 {
				t.Errorf("all were served in %d rounds", rounds)
			}
			break
		}
		if len(resumes) > accounts || rounds > orders {
			t.Fatalf("%d resumes in round %d", len(resumes), rounds)
		}
		settle(resumes)
	}
	if n := count(`SELECT count(*) FROM payments WHERE status = 'succeeded' AND version = 2`); n != accounts*orders {
		t.Errorf("%d are paid", n)
	}
	if n := count(`SELECT (SELECT count(*) FROM waits) + (SELECT sum(waiting) FROM balances)`); n != 0 {
		t.Errorf("%d still wait", n)
	}
}
