package postgres

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// trade settles requests of every flow, of two tenants and of some who do not reach the accounts, a second after
// another. It returns the accounts and orders.
func (b *bundle) trade(random *rand.Rand, begin time.Time) (accounts, orders []uuid.UUID) {
	b.Helper()
	owners := []string{"alice", "alicia", "bob"}
	var requests []ledger.Request
	add := func(account uuid.UUID, by identity.Reach, c ledger.Command) {
		r := b.request(account, c)
		r.By, r.ReceivedAt = by, begin.Add(time.Duration(b.arrived)*time.Second)
		requests = append(requests, r)
	}
	tenants := make(map[uuid.UUID]string)
	for i := range 6 {
		id := uuid.New()
		accounts, tenants[id] = append(accounts, id), []string{"default", "shop"}[i%2]
		by := identity.Reach{Tenant: tenants[id]}
		add(id, by, ledger.CreateAccount{Owner: owners[i/2], Reference: "customer " + owners[i/2]})
		add(id, by, ledger.Deposit{Currency: "RUB", Amount: 20_000, Reference: "first"})
	}
	for range 400 {
		account := accounts[random.IntN(len(accounts))]
		by := identity.Reach{Tenant: tenants[account]}
		if random.IntN(10) == 0 { // a stranger of the same tenant, or of the other one
			by = []identity.Reach{{Tenant: by.Tenant, Owner: "eve"}, {Tenant: "market"}}[random.IntN(2)]
		}
		amount, reference := 1+random.Int64N(400), []string{"", "a", "a1", "ab", "b"}[random.IntN(5)]
		switch random.IntN(7) {
		case 0:
			add(account, by, ledger.Deposit{Currency: "RUB", Amount: amount, Reference: reference})
		case 1:
			add(account, by, ledger.Withdrawal{Currency: "RUB", Amount: amount * 100, Reference: reference})
		case 2:
			add(account, by, ledger.Transfer{Currency: "RUB", Amount: amount,
				ToAccountID: accounts[random.IntN(len(accounts))], Reference: reference})
		case 3:
			add(account, by, ledger.HoldFunds{Currency: "RUB", Amount: amount})
		default:
			order := uuid.New()
			orders = append(orders, order)
			c := ledger.Payment{OrderID: order, Currency: "RUB", Amount: amount, Reference: reference,
				Capture: contract.CaptureManual}
			add(account, by, c)
			switch random.IntN(4) {
			case 0:
				add(account, by, ledger.Confirm{OrderID: order, Amount: amount})
				add(account, by, ledger.Refund{OrderID: order})
			case 1:
				add(account, by, ledger.Reject{OrderID: order})
			case 2:
				add(account, by, ledger.Cancel{OrderID: order, Currency: "RUB", Amount: amount,
					Capture: contract.CaptureManual})
			}
		}
	}
	for batch := range slices.Chunk(requests, 50) {
		b.settle(batch...)
	}
	return accounts, orders
}

// pagesOf reads a whole list in pages.
func pagesOf[R any](t *testing.T, limit int, id func(R) uuid.UUID,
	read func(below int64) ([]R, int64, error)) (ids []uuid.UUID) {
	t.Helper()
	for below := pg.NewestFirst; below != 0; {
		page, next, err := read(below)
		if err != nil || len(page) > limit || next >= below {
			t.Fatalf("%d of %d rows, from %d to %d: %v", len(page), limit, below, next, err)
		}
		for _, row := range page {
			ids = append(ids, id(row))
		}
		below = next
	}
	return ids
}

// Whatever filters come together, the pages of a list have each row that meets them all and is in reach, once, newest
// first.
func TestListsAgreeWithAPlainLook(t *testing.T) {
	b := setup(t)
	random := rand.New(rand.NewPCG(17, uint64(time.Now().UnixNano())))
	begin := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	accounts, orders := b.trade(random, begin)
	if !pg.Distributed(b.Service) { // too many to be named
		b.exec(`INSERT INTO accounts (id, lane, tenant, owner, created_at)
			SELECT gen_random_uuid(), 1, 'default', 'bob', now() FROM generate_series(1, $1)`, maxOwned)
	}
	var rows []operationRow
	b.must(b.Owner.Select(&rows, `SELECT `+operationColumns+` FROM operations ORDER BY seq DESC`))
	var payments []ledger.OrderPayment
	b.must(b.Owner.Select(&payments, `SELECT `+paymentColumns+` FROM payments`))
	var holds []ledger.Hold
	b.must(b.Owner.Select(&holds, `SELECT `+holdColumns+` FROM holds`))
	all := make(map[uuid.UUID]Account)
	var known []Account
	b.must(b.Owner.Select(&known, `SELECT id, tenant, owner, reference, seq, created_at FROM accounts ORDER BY seq DESC`))
	for _, a := range known {
		all[a.ID] = a
	}
	choose := func(of ...string) string { return append(of, make([]string, 2*len(of))...)[random.IntN(3*len(of))] }
	one := func(of []uuid.UUID) (id uuid.NullUUID) {
		if random.IntN(3) == 0 {
			id = uuid.NullUUID{UUID: of[random.IntN(len(of))], Valid: true}
		}
		return id
	}
	at := func() *time.Time {
		if random.IntN(3) > 0 {
			return nil
		}
		at := begin.Add(time.Duration(random.IntN(600)) * time.Second)
		return &at
	}
	check := func(what any, by identity.Reach, got, want []uuid.UUID) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%+v for %+v: %d rows, not %d", what, by, len(got), len(want))
		}
	}
	within := func(r operationRow, from, to *time.Time) bool {
		return (from == nil || !r.CreatedAt.Before(*from)) && (to == nil || r.CreatedAt.Before(*to))
	}
	for range 150 {
		by := identity.Reach{Tenant: []string{"default", "shop", "market"}[random.IntN(3)],
			Owner: choose("alice", "bob", "eve")}
		limit := 1 + random.IntN(100)
		reaches := func(id uuid.UUID) bool { a, ok := all[id]; return ok && by.Covers(a.Tenant, a.Owner) }
		about := func(r operationRow, id uuid.UUID) bool {
			// What a stranger to an account asks for there and back is not about it.
			return reaches(id) && (r.AccountID == id && !r.Stranger || r.ToAccountID == id && r.AccountID != id)
		}
		f := OperationFilter{
			AccountID: one(accounts), OrderID: one(orders), Reference: choose("a", "b"), ReferencePrefix: choose("a", "ab"),
			Kind: ledger.Kind(choose("payment", "transfer", "refund")), Status: ledger.Status(choose("success", "error")),
			Reason: ledger.Reason(choose("insufficient_funds", "account_not_found")), From: at(), To: at(),
		}
		var want []uuid.UUID
		for _, r := range rows {
			if r.Tenant == by.Tenant && within(r, f.From, f.To) &&
				(by.Owner == "" || about(r, r.AccountID) || about(r, r.ToAccountID)) &&
				(!f.AccountID.Valid || about(r, f.AccountID.UUID)) && (!f.OrderID.Valid || r.OrderID == f.OrderID.UUID) &&
				(f.Reference == "" || r.Reference == f.Reference) && strings.HasPrefix(r.Reference, f.ReferencePrefix) &&
				(f.Kind == "" || r.Kind == f.Kind) && (f.Status == "" || r.Status == f.Status) &&
				(f.Reason == "" || r.Reason == f.Reason) {
				want = append(want, r.ID)
			}
		}
		if pg.Distributed(b.Service) && by.Owner != "" && !f.AccountID.Valid { // docs/scaling.md: not there yet
			continue
		}
		check(f, by, pagesOf(t, limit, func(op ledger.Operation) uuid.UUID { return op.ID },
			func(below int64) ([]ledger.Operation, int64, error) {
				return b.Operations(t.Context(), by, f, below, limit)
			}), want)

		p := PaymentFilter{AccountID: one(accounts), OrderID: one(orders),
			Status: choose("authorized", "cancelled", "failed"), Reason: ledger.Reason(choose("rejected", "cancelled")),
			From: at(), To: at()}
		want = nil
		for _, r := range rows {
			i := slices.IndexFunc(payments, func(p ledger.OrderPayment) bool { return p.OrderID == r.ID })
			if i < 0 || r.Tenant != by.Tenant || !within(r, p.From, p.To) {
				continue
			}
			if o := payments[i]; (by.Owner == "" || reaches(o.AccountID)) &&
				(!p.AccountID.Valid || about(r, p.AccountID.UUID)) && (!p.OrderID.Valid || o.OrderID == p.OrderID.UUID) &&
				(p.Status == "" || o.Status == p.Status) && (p.Reason == "" || o.Reason == p.Reason) {
				want = append(want, o.OrderID)
			}
		}
		check(p, by, pagesOf(t, limit, func(p ledger.OrderPayment) uuid.UUID { return p.OrderID },
			func(below int64) ([]ledger.OrderPayment, int64, error) {
				return b.Payments(t.Context(), by, p, below, limit)
			}), want)

		a := AccountFilter{Owner: choose("alice", "bob"), OwnerPrefix: choose("ali", "alicia", "x"),
			Reference: choose("customer bob"), ReferencePrefix: choose("customer", "customer a")}
		want = nil
		for _, k := range known {
			if reaches(k.ID) && (a.Owner == "" || k.Owner == a.Owner) && (a.Reference == "" || k.Reference == a.Reference) &&
				strings.HasPrefix(k.Owner, a.OwnerPrefix) && strings.HasPrefix(k.Reference, a.ReferencePrefix) {
				want = append(want, k.ID)
			}
		}
		check(a, by, pagesOf(t, limit, func(a Account) uuid.UUID { return a.ID },
			func(below int64) ([]Account, int64, error) { return b.Accounts(t.Context(), by, a, below, limit) }), want)

		account := all[accounts[random.IntN(len(accounts))]]
		status := ledger.HoldStatus(choose("open", "captured", "released"))
		want = nil
		for _, r := range rows {
			i := slices.IndexFunc(holds, func(h ledger.Hold) bool { return h.ID == r.ID })
			if i >= 0 && holds[i].AccountID == account.ID && (status == "" || holds[i].Status == status) {
				want = append(want, r.ID)
			}
		}
		check(status, identity.Reach{Tenant: account.Tenant}, pagesOf(t, limit,
			func(h ledger.Hold) uuid.UUID { return h.ID }, func(below int64) ([]ledger.Hold, int64, error) {
				return b.Holds(t.Context(), account, status, below, limit)
			}), want)
	}
}
