package ledger_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
)

// asked are commands of every kind that a client can ask for, on what is there of account id(1): hold id(20), order
// id(30), which is authorized, and operation id(40), which waits for money of another currency.
func asked() map[string]ledger.Command {
	return map[string]ledger.Command{
		"deposit":         ledger.Deposit{Currency: "RUB", Amount: 1},
		"first deposit":   ledger.Deposit{Currency: "EUR", Amount: 1},
		"withdraw":        ledger.Withdrawal{Currency: "RUB", Amount: 1},
		"wait":            ledger.Withdrawal{Currency: "RUB", Amount: 10_000, WaitForFunds: true},
		"transfer":        ledger.Transfer{Currency: "RUB", Amount: 1, ToAccountID: id(2)},
		"transfer itself": ledger.Transfer{Currency: "RUB", Amount: 1, ToAccountID: id(1)},
		"hold":            ledger.HoldFunds{Currency: "RUB", Amount: 1},
		"capture":         ledger.Capture{HoldID: id(20)},
		"capture more":    ledger.Capture{HoldID: id(20), Currency: "RUB", Amount: 1000},
		"release":         ledger.Release{HoldID: id(20)},
		"release order":   ledger.Release{HoldID: id(30)},
		"confirm":         ledger.Confirm{OrderID: id(30)},
		"reject":          ledger.Reject{OrderID: id(30)},
		"refund":          ledger.Refund{OrderID: id(30)},
		"cancel":          ledger.CancelOperation{OperationID: id(40)},
		"cancel order":    ledger.CancelOperation{OperationID: id(30)},
		"pay":             ledger.Payment{OrderID: id(50), Currency: "RUB", Amount: 1, Capture: contract.CaptureAutomatic},
		"pay later": ledger.Payment{OrderID: id(50), Currency: "RUB", Amount: 1, Capture: contract.CaptureAutomatic,
			AwaitInventory: true},
		"pay beyond": ledger.Payment{OrderID: id(50), Currency: "RUB", Amount: 10_000, WaitForFunds: true},
		"balance":    ledger.BalanceQuery{},
	}
}

// shop is a state in which alice of the tenant shop has account id(1), and carol of the same tenant id(2).
func shop() *script {
	s := &script{state: newState(), at: now}
	by := identity.Reach{Tenant: "shop"}
	for n, owner := range []string{"alice", "carol"} {
		s.do(ledger.Request{By: by, AccountID: id(n + 1), Command: ledger.CreateAccount{Owner: owner}})
	}
	for _, r := range []ledger.Request{
		{Command: ledger.Deposit{Currency: "RUB", Amount: 100}},
		{ID: id(20), Command: ledger.HoldFunds{Currency: "RUB", Amount: 10}},
		{ID: id(30), Command: ledger.Payment{OrderID: id(30), Currency: "RUB", Amount: 10, Capture: contract.CaptureManual}},
		{ID: id(40), Command: ledger.Withdrawal{Currency: "USDT", Amount: 10, WaitForFunds: true}},
	} {
		r.By = by
		s.do(r)
	}
	return s
}

// What is not in reach ends as if it were not there, and moves nothing; what is in reach does not.
func TestWhatIsNotInReachIsNotThere(t *testing.T) {
	t.Parallel()
	for name, command := range asked() {
		for _, by := range []identity.Reach{
			{Tenant: "shop"}, {Tenant: "shop", Owner: "alice"}, // reach it
			{Tenant: "shop", Owner: "carol"}, {Tenant: "shop", Owner: "bob"}, {Tenant: "Shop"}, {Tenant: "other"},
			{Tenant: "other", Owner: "alice"}, {}, {Owner: "alice"},
		} {
			r := ledger.Request{By: by, ID: id(50), AccountID: id(1), Command: command}
			there, empty := shop(), &script{state: newState(), at: now}
			before, entries := maps.Clone(there.balances), len(there.entries)
			got, want := there.do(r).results, empty.do(r).results
			ended, missing := got[len(got)-1], want[len(want)-1]
			stranger := ended.Stranger
			ended.Stranger, ended.Seq, missing.Seq = false, 0, 0
			ended.CreatedAt, missing.CreatedAt = time.Time{}, time.Time{}
			reached := by.Covers("shop", "alice")
			if name == "balance" {
				book := ledger.NewBook(now, 1)
				there.load(book, []ledger.Request{r})
				if book.Reaches(r) != reached {
					t.Errorf("the balance, asked by %+v: reached %t", by, !reached)
				}
				continue
			}
			same := ended == missing
			if same == reached {
				t.Errorf("%s by %+v: %+v\nwhere nothing is there: %+v", name, by, ended, missing)
			}
			// No list shows a cancellation, so nobody asks whose it is.
			if ended.Kind != ledger.KindCancelOperation && stranger == reached {
				t.Errorf("%s by %+v: stranger %t", name, by, stranger)
			}
			if !reached && (!maps.Equal(before, there.balances) || len(there.entries) != entries) {
				t.Errorf("%s by %+v moved money", name, by)
			}
		}
	}
}

func TestATransferStaysInItsTenant(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		by     identity.Reach
		payee  int
		reason ledger.Reason
	}{
		{identity.Reach{Tenant: "shop"}, 2, ""}, {identity.Reach{Tenant: "shop", Owner: "alice"}, 2, ""},
		{identity.Reach{Tenant: "shop"}, 3, ledger.AccountNotFound},
		{identity.Reach{Tenant: "shop"}, 4, ledger.AccountNotFound},
		{identity.Reach{Tenant: "shop", Owner: "alice"}, 3, ledger.AccountNotFound},
	} {
		s := shop()
		s.do(ledger.Request{By: identity.Reach{Tenant: "other"}, AccountID: id(3),
			Command: ledger.CreateAccount{Owner: "alice"}})
		s.do(ledger.Request{By: test.by,
			Command: ledger.Transfer{Currency: "RUB", Amount: 1, ToAccountID: id(test.payee)}})
		if got := s.results[len(s.results)-1]; got.Reason != test.reason || got.Tenant != "shop" || got.Stranger {
			t.Errorf("%+v to %d: %+v", test.by, test.payee, got)
		}
	}
}

func TestAnIDOfAnAccountIsEverybodys(t *testing.T) {
	t.Parallel()
	for by, stranger := range map[identity.Reach]bool{
		{Tenant: "shop"}: false, {Tenant: "shop", Owner: "bob"}: true, {Tenant: "other"}: true, {}: true,
	} {
		s := shop().do(ledger.Request{By: by, Command: ledger.CreateAccount{Owner: "bob"}})
		if got := s.results[len(s.results)-1]; got.Reason != ledger.AccountExists || got.Stranger != stranger {
			t.Errorf("%+v: %+v", by, got)
		}
		if got := s.accounts[id(1)]; got.Tenant != "shop" || got.Owner != "alice" {
			t.Errorf("%+v took the account: %+v", by, got)
		}
	}
}

// What no client asks for acts for the account's own tenant, and says so in its records.
func TestDeadlinesAndQueuesOfATenant(t *testing.T) {
	t.Parallel()
	s := shop()
	s.later(8 * 24 * time.Hour)
	if got := s.holds[id(20)].Status; got != ledger.Expired {
		t.Errorf("the hold is %s", got)
	}
	for _, op := range s.operations {
		if op.Tenant != "shop" || op.Stranger {
			t.Errorf("%+v", op)
		}
	}
	for _, p := range s.payments {
		if p.Tenant != "shop" {
			t.Errorf("%+v", p)
		}
	}
	served := shop().do(ledger.Request{By: identity.Reach{Tenant: "shop"},
		Command: ledger.Deposit{Currency: "USDT", Amount: 100}})
	if got := served.operations[id(40)]; got.Status != ledger.Success || got.Tenant != "shop" {
		t.Errorf("served: %+v", got)
	}
}

// A request that names strangers has all of them looked up, and is itself left out of what makes balances.
func TestStrangersAreLookedUpLikeWhatIsMissing(t *testing.T) {
	t.Parallel()
	requests := []ledger.Request{
		{AccountID: id(1), Command: ledger.Deposit{Currency: "RUB", Amount: 1}},
		{AccountID: id(1), By: identity.Reach{Tenant: "other"}, Command: ledger.Deposit{Currency: "EUR", Amount: 1}},
		{AccountID: id(2), Command: ledger.Transfer{Currency: "RUB", Amount: 1, ToAccountID: id(3)}},
		{AccountID: id(4), By: identity.Reach{Tenant: "other"}, Command: ledger.Resume{Currency: "RUB"}},
		{AccountID: id(5), Command: ledger.Deposit{Currency: "RUB", Amount: 1}},
	}
	book := ledger.NewBook(now, len(requests))
	needs := book.Needs(requests)
	for n, tenant := range []string{1: "", 2: "default", 3: "other", 4: ""} {
		book.PutAccount(ledger.Account{ID: id(n), Tenant: tenant})
	}
	others := book.Strange(requests, needs)
	for n, whole := range []bool{1: true, 2: false, 3: true, 4: false, 5: false} {
		if n > 0 && needs.Accounts[id(n)] != whole {
			t.Errorf("account %d: %t", n, !whole)
		}
	}
	wanted := book.Needs(others).Balances
	if len(others) != 4 || wanted[ledger.Key{AccountID: id(1), Currency: "EUR"}] ||
		wanted[ledger.Key{AccountID: id(3), Currency: "RUB", Lane: contract.Lane(id(3))}] ||
		!wanted[ledger.Key{AccountID: id(4), Currency: "RUB"}] || !wanted[ledger.Key{AccountID: id(1), Currency: "RUB"}] {
		t.Errorf("%d others want %v", len(others), wanted)
	}
}

// tenants are those of the random scripts; each has the same two owners.
var tenants = []string{identity.DefaultTenant, "shop", "market"}

// drawAsked draws a request of somebody, which may name what is another's.
func drawAsked(t *rapid.T, n int) ledger.Request {
	tenant := rapid.IntRange(0, len(tenants)-1).Draw(t, "tenant")
	by := identity.Reach{Tenant: tenants[tenant],
		Owner: rapid.SampledFrom([]string{"", "", "alice", "bob"}).Draw(t, "owner")}
	account := func(name string) uuid.UUID { return id(rapid.IntRange(0, 5).Draw(t, name)) }
	other := func(name string) uuid.UUID { return id(1000 + rapid.IntRange(0, n).Draw(t, name)) }
	amount := func() int64 { return rapid.Int64Range(1, 50).Draw(t, "amount") }
	r := ledger.Request{By: by, ID: id(1000 + n), AccountID: account("account"), Seq: int64(n + 1), ReceivedAt: now}
	switch rapid.SampledFrom([]string{
		"open", "deposit", "deposit", "deposit", "withdraw", "transfer", "transfer", "hold", "hold", "capture", "release",
		"pay", "pay", "confirm", "reject", "refund", "cancel", "end", "inventory",
	}).Draw(t, "kind") {
	case "open": // which ID is whose is fixed: that somebody else has it is the one thing that tells
		number := tenant + 3*rapid.IntRange(0, 1).Draw(t, "which")
		r.By.Owner = "" // billing.Read opens no account of another owner for a restricted one
		r.AccountID, r.Command = id(number), ledger.CreateAccount{Owner: []string{"alice", "bob"}[number/3]}
	case "deposit":
		r.Command = ledger.Deposit{Currency: "RUB", Amount: amount()}
	case "withdraw":
		r.Command = ledger.Withdrawal{Currency: "RUB", Amount: amount(), WaitForFunds: rapid.Bool().Draw(t, "wait")}
	case "transfer":
		r.Command = ledger.Transfer{Currency: "RUB", Amount: amount(), ToAccountID: account("payee")}
	case "hold":
		r.Command = ledger.HoldFunds{Currency: "RUB", Amount: amount()}
	case "capture":
		r.Command = ledger.Capture{HoldID: other("hold")}
	case "release":
		r.Command = ledger.Release{HoldID: other("hold")}
	case "pay":
		r.Command = ledger.Payment{OrderID: r.ID, Currency: "RUB", Amount: amount(),
			Capture:        rapid.SampledFrom([]string{contract.CaptureManual, contract.CaptureAutomatic}).Draw(t, "capture"),
			AwaitInventory: rapid.Bool().Draw(t, "await"), WaitForFunds: rapid.Bool().Draw(t, "wait")}
	case "confirm":
		r.Command = ledger.Confirm{OrderID: other("order")}
	case "reject":
		r.Command = ledger.Reject{OrderID: other("order")}
	case "refund":
		r.Command = ledger.Refund{OrderID: other("order")}
	case "end":
		r.Command = ledger.CancelOperation{OperationID: other("operation")}
	case "cancel":
		r.Command = ledger.Cancel{OrderID: other("order"), Currency: "RUB", Amount: 1, Capture: contract.CaptureAutomatic}
	case "inventory":
		r.Command = ledger.Inventory{OrderID: other("order"), InStock: rapid.Bool().Draw(t, "in stock")}
	}
	r.Lane = contract.Lane(r.AccountID)
	return r
}

// The requests of three tenants and their owners, who name each other's accounts, holds, orders and operations, in
// batches as it comes: for each tenant everything ends as if the others did not exist, nobody moves what is another's,
// and the sums hold for each tenant by itself.
func TestTenantsDoNotExistForEachOther(t *testing.T) { t.Parallel(); rapid.Check(t, tenantsApart) }

// FuzzTenantsApart looks for a counterexample guided by coverage.
func FuzzTenantsApart(f *testing.F) { f.Fuzz(rapid.MakeFuzz(tenantsApart)) }

func tenantsApart(t *rapid.T) {
	requests := make([]ledger.Request, rapid.IntRange(1, 100).Draw(t, "requests"))
	// The tenants of orders: what comes from orders and the inventory names the right one.
	owner := make(map[uuid.UUID]string)
	for i := range requests {
		r := drawAsked(t, i)
		refs := r.References()
		switch r.Command.(type) {
		case ledger.Payment:
			owner[r.ID] = r.By.Tenant
		case ledger.Cancel, ledger.Inventory:
			if tenant, placed := owner[refs.Order]; placed {
				r.By = identity.Reach{Tenant: tenant}
			} else { // it has not come, and so belongs to nobody
				r.Command = ledger.BalanceQuery{}
			}
		}
		requests[i] = r
	}
	// What waits for money is served after each batch, so where batches end matters to a tenant that is alone, too.
	together, apart := newState(), make(map[string]*state)
	for _, tenant := range tenants {
		apart[tenant] = newState()
	}
	for rest := requests; len(rest) > 0; {
		n := rapid.IntRange(1, len(rest)).Draw(t, "batch")
		together.settle(rest[:n])
		together.drain(now)
		for tenant, s := range apart {
			for _, r := range rest[:n] {
				if r.By.Tenant == tenant {
					s.settle([]ledger.Request{r})
				}
			}
			s.drain(now)
		}
		rest = rest[n:]
	}
	together.check(t)
	for tenant, s := range apart {
		compare(t, tenant, together, s)
	}
	for _, e := range together.entries {
		op := together.operations[e.OperationID]
		account, ok := together.accounts[e.AccountID]
		if ok && account.Tenant != op.Tenant {
			t.Fatalf("%+v of tenant %s is on an account of tenant %s", e, op.Tenant, account.Tenant)
		}
	}
	asked := make(map[uuid.UUID]ledger.Request)
	for _, r := range requests {
		asked[r.ID] = r
	}
	for _, op := range together.operations {
		by, account := asked[op.ID].By, together.accounts[op.AccountID]
		if op.Status == ledger.Success && by.Owner != "" && account.Owner != by.Owner {
			t.Fatalf("%+v of owner %s, asked by %+v", op, account.Owner, by)
		}
	}
}

// compare holds what has become of a tenant beside others against what becomes of it alone.
func compare(t *rapid.T, tenant string, together, alone *state) {
	mine := func(s *state, account uuid.UUID) bool {
		a, ok := s.accounts[account]
		return ok && a.Tenant == tenant
	}
	count, sum := 0, int64(0)
	for id, op := range together.operations {
		if op.Tenant != tenant {
			continue
		}
		count++
		op.Stranger = alone.operations[id].Stranger // there are more of them where there are others
		if op != alone.operations[id] {
			t.Fatalf("%s: beside others %+v\nalone %+v", tenant, op, alone.operations[id])
		}
	}
	if count != len(alone.operations) {
		t.Fatalf("%s: %d operations, alone %d", tenant, count, len(alone.operations))
	}
	for key, balance := range together.balances {
		if mine(together, key.AccountID) && balance != alone.balances[key] {
			t.Fatalf("%s: %v has %+v, alone %+v", tenant, key, balance, alone.balances[key])
		}
	}
	for _, e := range together.entries {
		if together.operations[e.OperationID].Tenant == tenant {
			sum += e.Amount + e.Frozen
		}
	}
	orders := func(s *state) (all []string) {
		for _, p := range s.orders {
			if p.Tenant == tenant {
				all = append(all, fmt.Sprintf("%+v", p))
			}
		}
		slices.Sort(all)
		return all
	}
	if got, want := orders(together), orders(alone); sum != 0 || !slices.Equal(got, want) {
		t.Fatalf("%s: sum %d, orders %v\nalone %v", tenant, sum, got, want)
	}
}
