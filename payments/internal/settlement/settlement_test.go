package settlement

import (
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/payments/internal/billing"
	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/money"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

// setupSettlement makes a database, and a function that settles a batch in it and returns the operations.
func setupSettlement(t *testing.T) (db postgrestest.DB, settle func(batch []postgres.Message) []*ledger.Operation) {
	t.Helper()
	return setupLogged(t, slog.New(slog.DiscardHandler))
}

func setupLogged(t *testing.T, log *slog.Logger) (db postgrestest.DB,
	settle func(batch []postgres.Message) []*ledger.Operation) {
	db = postgrestest.Database(t, "payments", postgres.Migrations()...)
	currencies, err := money.LoadCurrencies("")
	if err != nil {
		t.Fatal(err)
	}
	var result Result
	s := New(postgres.New(db.Service), currencies, log, prometheus.NewRegistry(), func(r Result) { result = r })
	seq := int64(0)
	return db, func(batch []postgres.Message) []*ledger.Operation {
		t.Helper()
		for i := range batch {
			seq++
			batch[i].Seq, batch[i].ReceivedAt = seq, time.Now()
		}
		var committed func()
		if err := pg.InTx(t.Context(), db.Service, func(tx *sqlx.Tx) (err error) {
			committed, err = s.Settle(t.Context(), tx, batch)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		committed()
		return result.Operations
	}
}

// stored are the messages in the inbox, in their order.
func stored(t *testing.T, db postgrestest.DB) []postgres.Message {
	t.Helper()
	var ids []uuid.UUID
	if err := db.Owner.SelectContext(t.Context(), &ids, `SELECT id FROM inbox ORDER BY seq`); err != nil {
		t.Fatal(err)
	}
	messages := make([]postgres.Message, len(ids))
	for i, id := range ids {
		var err error
		if messages[i], err = postgres.New(db.Service).Message(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	return messages
}

// What the system itself puts into an account's queue has the account's tenant, as everything else in it: else its
// order would not be kept where tenants get shares.
func TestWhatNobodyAsksForHasItsAccountsTenant(t *testing.T) {
	t.Parallel()
	db, settle := setupSettlement(t)
	account, order := uuid.New(), uuid.New()
	by := identity.Reach{Tenant: "shop"}
	do := func(id uuid.UUID, c ledger.Command) {
		t.Helper()
		settle([]postgres.Message{billing.Message(ledger.Request{By: by, ID: id, AccountID: account, Command: c}, "")})
	}
	do(uuid.New(), ledger.CreateAccount{})
	do(order, ledger.Payment{OrderID: order, Currency: "RUB", Amount: 1, Capture: contract.CaptureAutomatic,
		AwaitInventory: true, AcceptedAt: time.Now()})
	do(uuid.New(), ledger.Deposit{Currency: "RUB", Amount: 10})
	do(uuid.New(), ledger.HoldFunds{Currency: "RUB", Amount: 7})
	do(uuid.New(), ledger.Withdrawal{Currency: "RUB", Amount: 20, WaitForFunds: true})
	do(uuid.New(), ledger.Deposit{Currency: "RUB", Amount: 1}) // the withdrawal is tried again
	if _, err := db.Owner.ExecContext(t.Context(), `UPDATE holds SET expires_at = now()`); err != nil {
		t.Fatal(err)
	}
	store := postgres.New(db.Service)
	if n, err := store.Expire(t.Context(), expire); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if _, err := store.AddInventory(t.Context(), []postgres.Inventory{{Tenant: "shop", OrderID: order,
		IdempotentKey: uuid.New(), Status: contract.InventoryCompleted}}); err != nil {
		t.Fatal(err)
	}
	if _, n, err := store.JoinInventory(t.Context(), inventoryMessage); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	var kinds []string
	if err := db.Owner.SelectContext(t.Context(), &kinds,
		`SELECT kind FROM inbox WHERE tenant = 'shop' ORDER BY kind`); err != nil {
		t.Fatal(err)
	}
	if want := []string{"expire", "inventory", "resume"}; !slices.Equal(kinds, want) {
		t.Errorf("of the tenant are %q, want %q", kinds, want)
	}
}

// Many accounts that are credited at once have their queues served together, a part of each at a time, until they are
// empty.
func TestManyQueuesAreServedTogether(t *testing.T) {
	t.Parallel()
	const accounts, orders = 600, 6
	db, settle := setupSettlement(t)
	count := func(query string) (n int) {
		t.Helper()
		if err := db.Owner.GetContext(t.Context(), &n, query); err != nil {
			t.Fatal(err)
		}
		return n
	}
	var create, pay, deposit []postgres.Message
	message := func(r ledger.Request) postgres.Message {
		return billing.Message(r, "")
	}
	for range accounts {
		id := uuid.New()
		create = append(create, message(ledger.Request{ID: uuid.New(), AccountID: id, Command: ledger.CreateAccount{}}))
		for range orders {
			order := uuid.New()
			pay = append(pay, message(ledger.Request{ID: order, AccountID: id, Command: ledger.Payment{
				OrderID: order, Currency: "RUB", Amount: 10, Capture: contract.CaptureAutomatic, WaitForFunds: true,
				AcceptedAt: time.Now(),
			}}))
		}
		deposit = append(deposit, message(ledger.Request{
			ID: uuid.New(), AccountID: id, Command: ledger.Deposit{Currency: "RUB", Amount: 10 * orders},
		}))
	}
	settle(create)
	settle(pay)
	settle(deposit)
	for rounds := 0; ; rounds++ {
		resumes := stored(t, db)
		if _, err := db.Owner.ExecContext(t.Context(), `DELETE FROM inbox`); err != nil {
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

// An account whose creation was rolled back may have left a balance of nothing: it does not exist all the same,
// neither as the owner of the balance nor as a payee.
func TestABalanceOfNothingIsNoAccount(t *testing.T) {
	t.Parallel()
	db, settle := setupSettlement(t)
	id, other := uuid.New(), uuid.New()
	if _, err := db.Service.ExecContext(t.Context(),
		`INSERT INTO balances (account_id, lane, currency) VALUES ($1, $2, 'RUB')`,
		id, contract.Lane(id)); err != nil {
		t.Fatal(err)
	}
	request := func(account uuid.UUID, c ledger.Command) ledger.Request {
		return ledger.Request{ID: uuid.New(), AccountID: account, Command: c}
	}
	create := func(account uuid.UUID) ledger.Request { return request(account, ledger.CreateAccount{}) }
	deposit := func(account uuid.UUID) ledger.Request {
		return request(account, ledger.Deposit{Currency: "RUB", Amount: 1})
	}
	transfer := func(from, to uuid.UUID) ledger.Request {
		return request(from, ledger.Transfer{Currency: "RUB", Amount: 1, ToAccountID: to})
	}
	settled := func(requests ...ledger.Request) (outcomes []string) {
		batch := make([]postgres.Message, len(requests))
		for i, r := range requests {
			batch[i] = billing.Message(r, "")
		}
		for _, op := range settle(batch) {
			outcomes = append(outcomes, string(op.Status)+" "+string(op.Reason))
		}
		return outcomes
	}
	settled(create(other), deposit(other))
	for name, c := range map[string]struct {
		requests []ledger.Request
		want     []string
	}{
		"a deposit": {[]ledger.Request{deposit(id)}, []string{"error account_not_found"}},
		"a transfer to it, and one from it": {[]ledger.Request{transfer(other, id), transfer(id, other)},
			[]string{"error account_not_found", "error account_not_found"}},
	} {
		if got := settled(c.requests...); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if got := settled(create(id), deposit(id)); !slices.Equal(got, []string{"success ", "success "}) {
		t.Errorf("once it is created: %q", got)
	}
	if got := settled(transfer(id, other), transfer(other, id)); !slices.Equal(got, []string{"success ", "success "}) {
		t.Errorf("and has an entry: %q", got)
	}
}
