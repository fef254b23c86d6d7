package postgres

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

// A tenant's lists come from indexes that have no other tenants' rows.
func TestListsOfATenantReadNoOthers(t *testing.T) {
	b := setup(t)
	b.exec(`INSERT INTO accounts (id, lane, tenant, owner, reference, created_at)
		SELECT gen_random_uuid(), 0, (ARRAY['default', 'shop', 'market'])[1 + n % 3], 'alice', 'r', now()
		FROM generate_series(1, 6000) AS n`)
	b.exec(`INSERT INTO accounts (id, lane, tenant, owner, reference, created_at)
		SELECT gen_random_uuid(), 0, 'small', 'alice', 'r', now() FROM generate_series(1, 3)`)
	b.exec(`ANALYZE accounts`)
	small := identity.Reach{Tenant: "small"}
	for _, list := range []struct {
		by               identity.Reach
		owner, reference string
		want             int
	}{
		{small, "", "", 3}, {small, "alice", "", 3}, {small, "", "r", 3}, {small, "bob", "", 0},
		{identity.Reach{Tenant: "small", Owner: "alice"}, "", "", 3},
		{identity.Reach{Tenant: "small", Owner: "alice"}, "bob", "", 0},
		{identity.Reach{Tenant: "small", Owner: "bob"}, "", "", 0}, {identity.Reach{Tenant: "none"}, "", "", 0},
		{identity.Default, "", "", 10}, {identity.Reach{Tenant: "shop"}, "alice", "r", 10},
	} {
		accounts, _, err := b.Accounts(t.Context(), list.by,
			AccountFilter{Owner: list.owner, Reference: list.reference}, pg.NewestFirst, 10)
		if err != nil || len(accounts) != list.want {
			t.Errorf("%+v: %d accounts, %v", list, len(accounts), err)
		}
		for _, a := range accounts {
			if a.Tenant != list.by.Tenant {
				t.Errorf("%+v lists an account of %s", list, a.Tenant)
			}
		}
	}
}

// A page of a list looks at rows of the one who asks alone, however many others have: in the default tenant, and of an
// account on which strangers try their luck.
func TestAPageReadsNoRowsOfOthers(t *testing.T) {
	postgrestest.NotOnCitus(t, "it counts the rows that the coordinator's own tables give")
	b := setup(t)
	others := 5000
	if text := os.Getenv("ALTYN_LIST_OTHERS"); text != "" {
		var err error
		others, err = strconv.Atoi(text)
		b.must(err)
	}
	account := uuid.New()
	for tenant, n := range map[string]int{"default": 10, "shop": others} {
		b.exec(`INSERT INTO accounts (id, lane, tenant, owner, reference, created_at)
			SELECT gen_random_uuid(), 0, $1, 'alice', 'r', now() FROM generate_series(1, $2::integer)`, tenant, n)
		for _, column := range []string{"account_id", "to_account_id"} {
			own := column == "account_id"
			b.exec(`INSERT INTO operations (id, lane, seq, operation, account_id, to_account_id, currency, amount, status,
					reason, created_at, settled_at, tenant, stranger)
				SELECT gen_random_uuid(), 0, n, 'transfer', CASE WHEN $3 THEN $4::uuid ELSE gen_random_uuid() END,
					CASE WHEN $3 THEN gen_random_uuid() ELSE $4::uuid END, 'RUB', 1, 'error', 'account_not_found', now(), now(),
					$1, $3 AND $1 <> 'default'
				FROM generate_series(1, $2::integer) AS n`, tenant, n, own, account)
		}
	}
	b.exec(`ANALYZE accounts, operations`)
	list := func(name string, want int, read func() (n int, err error)) {
		t.Helper()
		before := b.read()
		n, err := read()
		b.must(err)
		rows := b.read() - before
		t.Logf("%s: %d rows read for %d", name, rows, n)
		if n != want || rows > 2*want+20 {
			t.Errorf("%s reads %d rows for %d, not %d", name, rows, n, want)
		}
	}
	for _, by := range []identity.Reach{identity.Default, {Tenant: identity.DefaultTenant, Owner: "alice"}} {
		for _, f := range []AccountFilter{
			{}, {Owner: "alice"}, {Reference: "r"}, {ReferencePrefix: "r"}, {OwnerPrefix: "al"},
		} {
			list(fmt.Sprintf("accounts by %+v of %+v", by, f), 10, func() (int, error) {
				accounts, _, err := b.Accounts(t.Context(), by, f, pg.NewestFirst, 50)
				return len(accounts), err
			})
		}
	}
	of := uuid.NullUUID{UUID: account, Valid: true}
	b.exec(`INSERT INTO accounts (id, lane, created_at) VALUES ($1, $2, now())`, account, contract.Lane(account))
	hourAgo := time.Now().Add(-time.Hour)
	for _, f := range []OperationFilter{{AccountID: of}, {}, {From: &hourAgo}} {
		list(fmt.Sprintf("operations of %+v", f), 20, func() (int, error) {
			operations, _, err := b.Operations(t.Context(), identity.Default, f, pg.NewestFirst, 50)
			return len(operations), err
		})
	}
	for name, by := range map[string]identity.Reach{"another tenant": {Tenant: "shop"}, "another owner": {Owner: "bob"}} {
		list("operations of an account by "+name, 0, func() (int, error) {
			operations, _, err := b.Operations(t.Context(), by, OperationFilter{AccountID: of}, pg.NewestFirst, 50)
			return len(operations), err
		})
	}
}

// read tells how many rows of accounts and operations have been read, by indexes and otherwise.
func (b *bundle) read() int {
	b.Helper()
	for range b.Service.Stats().OpenConnections { // a session's statistics are told when it is asked to
		_, err := b.Service.Exec(`SELECT pg_stat_force_next_flush()`)
		b.must(err)
	}
	return b.count(`
		SELECT (SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE relname IN ('accounts', 'operations'))
			+ (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname IN ('accounts', 'operations'))`)
}

// What waits in the inbox is its tenant's, also when an operator has given it up. What is no operation is nobody's.
func TestWhatWaitsIsItsTenants(t *testing.T) {
	b := setup(t)
	const sent = `{"currency": "RUB", "amount": 1, "by": {"tenant": "shop", "owner": "alice"}}`
	for _, row := range []struct {
		kind, payload string
		there         bool
	}{
		{"deposit", sent, true}, {"discarded", `{"kind": "deposit", "payload": ` + sent + `, "reason": "r"}`, true},
		{Repetition, `{"id": "` + uuid.NewString() + `", "kind": "deposit", "payload": ` + sent + `}`, false},
		{Unreadable, `{"reason": "r"}`, false},
		{"discarded", `{"kind": "unreadable", "payload": {"reason": "r"}, "reason": "r"}`, false},
	} {
		id := uuid.New()
		b.exec(`INSERT INTO inbox (id, lane, account_id, kind, payload, stopped)
			VALUES ($1, 0, gen_random_uuid(), $2, $3, true)`, id, row.kind, row.payload)
		for by, reaches := range map[identity.Reach]bool{
			{Tenant: "shop"}: true, {Tenant: "shop", Owner: "alice"}: true, {Tenant: "shop", Owner: "bob"}: false,
			identity.Default: false, {Owner: "alice"}: false,
		} {
			m, err := b.Waiting(t.Context(), by, id)
			if there := row.there && reaches; there != (err == nil) || !there && !errors.Is(err, ErrNotFound) ||
				there && m.Body.By.Tenant != "shop" {
				t.Errorf("%s for %+v: %+v, %v", row.kind, by, m, err)
			}
		}
		named, err := b.Named(t.Context(), contract.Command{OperationID: &id})
		want := map[bool]string{true: "shop"}[row.there]
		if tenant := named.Operations[id].Tenant; err != nil || tenant != want {
			t.Errorf("%s is named as %q's, %v", row.kind, tenant, err)
		}
	}
}

// What one tenant says of an order's goods joins no payment of another, and is not in the way of what that one says.
func TestInventoryOfTenants(t *testing.T) {
	b := setup(t)
	account, order, key := uuid.New(), uuid.New(), uuid.New()
	open := b.request(account, ledger.CreateAccount{})
	pay := b.request(account, ledger.Payment{OrderID: order, Currency: "RUB", Amount: 1, AwaitInventory: true,
		Capture: contract.CaptureAutomatic})
	open.By, pay.By, pay.ID = identity.Reach{Tenant: "shop"}, identity.Reach{Tenant: "shop"}, order
	b.settle(open, pay)
	said := func(tenant, status string) Inventory {
		return Inventory{Tenant: tenant, OrderID: order, IdempotentKey: key, Status: status}
	}
	for _, test := range []struct {
		tenant string
		joined int
	}{{"market", 0}, {"", 0}, {"shop", 1}} {
		if added, err := b.AddInventory(t.Context(), []Inventory{said(test.tenant, "COMPLETED"),
			said(test.tenant, "FAILED")}); added != 1 || err != nil {
			t.Errorf("%q added %d, %v", test.tenant, added, err)
		}
		looked, joined, err := b.JoinInventory(t.Context(), func(m Inventory, of uuid.UUID) Message {
			if m.Tenant != "shop" || of != account {
				t.Errorf("%+v joins %s", m, of)
			}
			return Message{ID: uuid.New(), AccountID: of, Lane: contract.Lane(of), Kind: string(ledger.KindInventory),
				Body: &ledger.Request{Command: ledger.Inventory{OrderID: order}}}
		})
		if looked < 1 || joined != test.joined || err != nil {
			t.Errorf("%q: %d looked at, %d joined, %v", test.tenant, looked, joined, err)
		}
	}
}

// The first entry of a balance gives it its account's tenant; a stranger makes no balance, and moves none.
func TestBalancesOfATenant(t *testing.T) {
	b := setup(t)
	account := uuid.New()
	shop := identity.Reach{Tenant: "shop", Owner: "alice"}
	requests := []ledger.Request{
		b.request(account, ledger.CreateAccount{Owner: "alice"}),
		b.request(account, ledger.Deposit{Currency: "RUB", Amount: 5}),
	}
	for i := range requests {
		requests[i].By = shop
	}
	b.settle(requests...)
	for _, by := range []identity.Reach{{}, {Tenant: "market"}, {Tenant: "shop", Owner: "bob"}} {
		for _, currency := range []string{"RUB", "EUR"} {
			r := b.request(account, ledger.Deposit{Currency: currency, Amount: 1})
			r.By = by
			if op := b.settle(r)[0]; op.Reason != ledger.AccountNotFound || !op.Stranger || op.Tenant != by.Normal().Tenant {
				t.Errorf("%+v: %+v", by, op)
			}
		}
		if _, err := b.Account(t.Context(), by, account); !errors.Is(err, ErrNotFound) {
			t.Errorf("%+v reads the account: %v", by, err)
		}
	}
	later := b.request(account, ledger.Withdrawal{Currency: "RUB", Amount: 2})
	later.By = shop
	if op := b.settle(later)[0]; op.Status != ledger.Success {
		t.Errorf("%+v", op)
	}
	if n := b.count(`SELECT count(*) FROM balances WHERE account_id = $1 AND tenant = 'shop' AND actual = 3`,
		account); n != 1 || b.count(`SELECT count(*) FROM balances WHERE account_id = $1`, account) != 1 {
		t.Error("the account has other balances")
	}
	read, err := b.Account(t.Context(), shop, account)
	if err != nil {
		t.Fatal(err)
	}
	of := OperationFilter{AccountID: uuid.NullUUID{UUID: read.ID, Valid: true}}
	if operations, _, err := b.Operations(t.Context(), shop, of, pg.NewestFirst, 10); err != nil || len(operations) != 3 {
		t.Errorf("the list has %+v, %v", operations, err)
	}
}
