package settlement

import (
	"log/slog"
	"strconv"
	"testing"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/payments/internal/billing"
	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/inbox"
	"github.com/altyn-pay/altyn/platform/money"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

// BenchmarkSettle accepts payments of a thousand accounts and settles them, some at a time; one operation is one
// payment. The server of the tests does not sync, so what is measured is the work alone.
func BenchmarkSettle(b *testing.B) {
	for _, size := range []int{1, 30, 300, 1000} {
		b.Run(strconv.Itoa(size), func(b *testing.B) { benchmarkSettle(b, size) })
	}
}

func benchmarkSettle(b *testing.B, size int) {
	db := postgrestest.Database(b, "payments", postgres.Migrations()...)
	currencies, err := money.LoadCurrencies("")
	if err != nil {
		b.Fatal(err)
	}
	settled := 0
	metrics := prometheus.NewRegistry()
	store := postgres.New(db.Service)
	s := New(store, currencies, slog.New(slog.DiscardHandler), metrics, func(r Result) { settled += len(r.Operations) })
	worker := inbox.NewWorker(store.Inbox(), s.Settle, inbox.DefaultRetry, slog.New(slog.DiscardHandler), metrics)
	intake := inbox.NewIntake(store.Inbox(), worker)
	settle := func(requests ...ledger.Request) {
		messages := make([]postgres.Message, len(requests))
		for i, r := range requests {
			messages[i] = billing.Message(r, "")
		}
		settled = 0
		if _, err := intake.Accept(b.Context(), messages...); err != nil || settled != len(requests) {
			b.Fatalf("settled %d of %d: %v", settled, len(requests), err)
		}
	}
	accounts := make([]uuid.UUID, 1000)
	var funds []ledger.Request
	for i := range accounts {
		accounts[i] = uuid.New()
		funds = append(funds, ledger.Request{ID: uuid.New(), AccountID: accounts[i], Command: ledger.CreateAccount{}},
			ledger.Request{ID: uuid.New(), AccountID: accounts[i], Command: ledger.Deposit{Currency: "RUB", Amount: 1e15}})
	}
	settle(funds...)
	for n := 0; b.Loop(); {
		requests := make([]ledger.Request, size)
		for i := range requests {
			id := uuid.Must(uuid.NewV7())
			requests[i] = ledger.Request{ID: id, AccountID: accounts[n%len(accounts)], Command: ledger.Payment{
				OrderID: id, Currency: "RUB", Amount: 100, Capture: contract.CaptureAutomatic,
			}}
			n++
		}
		settle(requests...)
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*size), "µs/payment")
}
