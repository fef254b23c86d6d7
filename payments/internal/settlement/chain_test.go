package settlement

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/payments/internal/billing"
	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/inbox"
	"github.com/altyn-pay/altyn/platform/money"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/testkit/contracttest"
	"github.com/altyn-pay/altyn/testkit/outboxtest"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

// Whatever is settled is in the chain, once: directly or by a worker, by any of several processes, while transactions
// are rolled back, handlers panic and sessions die, and while two linkers compete.
func TestEverySettledBatchIsChained(t *testing.T) {
	t.Parallel()
	const processes, clients, requests = 3, 8, 60
	db := postgrestest.Database(t, "payments", postgres.Migrations()...)
	currencies, err := money.LoadCurrencies("")
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	run := func(work func(ctx context.Context) error) {
		running.Go(func() {
			if err := work(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	store := postgres.New(db.Service)
	var intakes []*inbox.Intake[*ledger.Request]
	for range processes {
		metrics := prometheus.NewRegistry()
		s := New(store, currencies, log, metrics, func(Result) {})
		retry := inbox.Retry{Attempts: 1000, First: time.Millisecond, Longest: 10 * time.Millisecond}
		worker := inbox.NewWorker(store.Inbox(), faulty(s.Settle), retry, log, metrics)
		run(worker.Run)
		run(Chain(store, log, func() {}).Run)
		intakes = append(intakes, inbox.NewIntake(store.Inbox(), worker))
	}
	accounts := make([]uuid.UUID, 12)
	for i := range accounts {
		accounts[i] = uuid.New()
	}
	var sending sync.WaitGroup
	for range clients {
		sending.Go(func() {
			for range requests {
				account, other := accounts[rand.IntN(len(accounts))], accounts[rand.IntN(len(accounts))]
				id := uuid.New()
				order := ledger.Payment{
					OrderID: id, Currency: "RUB", Amount: 5, Capture: contract.CaptureManual, WaitForFunds: true,
				}
				commands := []ledger.Command{
					ledger.CreateAccount{}, ledger.Deposit{Currency: "RUB", Amount: 20}, ledger.Deposit{Currency: "RUB", Amount: 3},
					ledger.Withdrawal{Currency: "RUB", Amount: 4, WaitForFunds: true}, ledger.HoldFunds{Currency: "RUB", Amount: 2},
					ledger.Transfer{ToAccountID: other, Currency: "RUB", Amount: 6}, order,
				}
				c := commands[rand.IntN(len(commands))]
				send(ctx, intakes, ledger.Request{ID: id, AccountID: account, Command: c})
				switch c.(type) {
				case ledger.HoldFunds:
					send(ctx, intakes, ledger.Request{ID: uuid.New(), AccountID: account, Command: ledger.Release{HoldID: id}})
				case ledger.Payment:
					send(ctx, intakes, ledger.Request{ID: uuid.New(), AccountID: account, Command: ledger.Confirm{OrderID: id}},
						ledger.Request{ID: uuid.New(), AccountID: account, Command: ledger.Cancel{OrderID: id}})
				}
			}
		})
	}
	// It may be looked at at any time; but Citus has nodes commit up to a minute late what a session leaves that dies.
	looks := 5
	if pg.Distributed(db.Service) {
		looks = 0
	}
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		for range looks {
			intact(t, store)
		}
	}()
	sending.Wait()
	<-looked
	postgrestest.AwaitCount(t, db.Owner, 0, `SELECT count(*) FROM inbox`)
	postgrestest.AwaitCount(t, db.Owner, 0, `SELECT count(*) FROM chain_unlinked`)
	stop()
	running.Wait()
	result := intact(t, store)
	if n := clients * requests; result.Rows < int64(n) || result.Links == 0 {
		t.Errorf("%+v", result)
	}
}

func intact(t *testing.T, store *postgres.Store) postgres.Verification {
	t.Helper()
	result, err := store.Verify(context.WithoutCancel(t.Context()), postgres.Verifying{Sealings: 1})
	if err != nil {
		t.Error(err)
	}
	for _, d := range result.Differences {
		t.Errorf("%s %s %s", d.Table, d.ID, d.What)
	}
	return result
}

// send has one of the processes accept requests, until one does.
func send(ctx context.Context, intakes []*inbox.Intake[*ledger.Request], requests ...ledger.Request) {
	messages := make([]postgres.Message, len(requests))
	for i, r := range requests {
		messages[i] = billing.Message(r, "")
	}
	for ctx.Err() == nil {
		if _, err := intakes[rand.IntN(len(intakes))].Accept(ctx, messages...); err == nil {
			return
		}
	}
}

// faulty makes a handler fail now and then, after it has written everything.
func faulty(handle inbox.Handler[*ledger.Request]) inbox.Handler[*ledger.Request] {
	return func(ctx context.Context, tx *sqlx.Tx, batch []postgres.Message) (func(), error) {
		committed, err := handle(ctx, tx, batch)
		if err != nil {
			return nil, err
		}
		switch rand.IntN(40) {
		case 0:
			return nil, errors.New("injected")
		case 1:
			panic("injected")
		case 2:
			_, err := tx.ExecContext(ctx, `SELECT pg_terminate_backend(pg_backend_pid())`)
			return nil, err
		}
		return committed, nil
	}
}

// The head is published as the document of the broker's messages says.
func TestTheHeadIsPublished(t *testing.T) {
	t.Parallel()
	db, settle := setupSettlement(t)
	store := postgres.New(db.Service)
	woken := 0
	c := Chain(store, slog.New(slog.DiscardHandler), func() { woken++ })
	account := uuid.New()
	settle([]postgres.Message{billing.Message(ledger.Request{
		ID: uuid.New(), AccountID: account, Command: ledger.CreateAccount{}}, "")})
	for range 2 { // within the hour one is enough
		if _, err := c.Once(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	messages := outboxtest.Messages(t, db.Owner)
	if len(messages) != 1 || woken != 1 {
		t.Fatalf("%d messages, woken %d times", len(messages), woken)
	}
	contracttest.Validate(t, messages[0].Topic, []byte(messages[0].Payload))
	var head contract.LedgerHead
	if err := json.Unmarshal([]byte(messages[0].Payload), &head); err != nil {
		t.Fatal(err)
	}
	result, err := store.Verify(t.Context(), postgres.Verifying{Heads: []contract.LedgerHead{head}})
	if err != nil || len(result.Differences) > 0 || head.Number != 1 {
		t.Errorf("head %+v: %+v, %v", head, result.Differences, err)
	}
}
