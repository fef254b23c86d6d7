package settlement

import (
	"errors"
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
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

// BenchmarkSettle accepts payments of a thousand accounts and settles them, some at a time; one operation is one
// payment. The server of the tests does not sync, so what is measured is the work alone.
func BenchmarkSettle(b *testing.B) {
	for _, size := range []int{1, 30, 300, 1000} {
		b.Run(strconv.Itoa(size), func(b *testing.B) { benchmarkSettle(b, size) })
	}
}

// BenchmarkTransfer moves money from one account to another, some times at a time: between accounts of one lane, and
// between accounts of two lanes, which on Citus are on different nodes.
func BenchmarkTransfer(b *testing.B) {
	for _, size := range []int{1, 100} {
		b.Run("within/"+strconv.Itoa(size), func(b *testing.B) { benchmarkTransfer(b, size, false) })
		b.Run("between/"+strconv.Itoa(size), func(b *testing.B) { benchmarkTransfer(b, size, true) })
	}
}

func benchmarkTransfer(b *testing.B, size int, between bool) {
	db := postgrestest.Database(b, "payments", postgres.Migrations()...)
	settle := settler(b, db)
	to := int16(0)
	if between {
		to = apart(b, db, 0)
	}
	payer, payee := accountIn(0), accountIn(to)
	for _, account := range []uuid.UUID{payer, payee} {
		settle(ledger.Request{ID: uuid.New(), AccountID: account, Command: ledger.CreateAccount{}},
			ledger.Request{ID: uuid.New(), AccountID: account, Command: ledger.Deposit{Currency: "RUB", Amount: 1e15}})
	}
	for b.Loop() {
		requests := make([]ledger.Request, size)
		for i := range requests {
			requests[i] = ledger.Request{ID: uuid.New(), AccountID: payer,
				Command: ledger.Transfer{ToAccountID: payee, Currency: "RUB", Amount: 1}}
		}
		settle(requests...)
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*size), "µs/transfer")
}

// accountIn makes the ID of an account in a lane.
func accountIn(lane int16) uuid.UUID {
	for {
		if id := uuid.New(); contract.Lane(id) == lane {
			return id
		}
	}
}

// apart returns a lane that is on another node than one, where there are nodes; else any other one.
func apart(b *testing.B, db postgrestest.DB, lane int16) (other int16) {
	if !pg.Distributed(db.Service) {
		return (lane + 1) % contract.Lanes
	}
	const node = `SELECT nodeport FROM citus_shards
		WHERE shardid = get_shard_id_for_distribution_column('accounts', $1::smallint)`
	var here, there int
	for there = here; there == here; other++ {
		err := errors.Join(db.Owner.Get(&here, node, lane), db.Owner.Get(&there, node, other))
		if err != nil {
			b.Fatal(err)
		}
	}
	return other - 1
}

// settler makes what accepts requests and settles them at once.
func settler(b *testing.B, db postgrestest.DB) func(...ledger.Request) {
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
	return func(requests ...ledger.Request) {
		messages := make([]postgres.Message, len(requests))
		for i, r := range requests {
			messages[i] = billing.Message(r, "")
		}
		settled = 0
		if _, err := intake.Accept(b.Context(), messages...); err != nil || settled != len(requests) {
			b.Fatalf("settled %d of %d: %v", settled, len(requests), err)
		}
	}
}

func benchmarkSettle(b *testing.B, size int) {
	db := postgrestest.Database(b, "payments", postgres.Migrations()...)
	settle := settler(b, db)
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
