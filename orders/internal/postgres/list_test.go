package postgres_test

import (
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/identity"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// stored is an order as the database has it.
type stored struct {
	order.Order
	Seq int64 `db:"seq"`
}

// market has 14,000 orders of three tenants, placed a second after another, with clocks that differ by up to 20 s. Nine
// of ten references begin with "often", so that their prefix leads to more orders than are looked at.
func market(t *testing.T, b bundle) (all []stored, accounts []uuid.UUID, begin time.Time) {
	t.Helper()
	begin = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for range 3 {
		accounts = append(accounts, uuid.New())
	}
	if _, err := b.Owner.Exec(`
		INSERT INTO orders (id, account_id, amount, currency, description, reference, capture, await_inventory,
			on_insufficient, status, reason, version, fingerprint, created_at, updated_at, tenant, subject, owned)
		SELECT gen_random_uuid(), ($1::uuid[])[1 + n * n % 3], 1 + n % 50, (ARRAY['RUB', 'USDT'])[1 + n % 2], '',
			CASE WHEN n % 10 > 0 THEN 'often ' || n % 4 WHEN n % 20 > 0 THEN 'Ünique ' || n / 20 % 9 ELSE '' END,
			'automatic', false, 'reject', (ARRAY['pending', 'paid', 'failed', 'cancelled'])[1 + n % 7 % 4],
			CASE WHEN n % 7 % 4 = 2 THEN 'insufficient_funds' WHEN n % 7 % 4 = 3 THEN 'a note' ELSE '' END,
			2, gen_random_uuid(), $2::timestamptz + n * interval '1s' + n * n % 21 * interval '1s', now(),
			CASE n % 11 WHEN 0 THEN 'shop' WHEN 1 THEN 'kiosk' ELSE 'default' END,
			(ARRAY['', 'alice', 'alicia', 'bob'])[1 + n / 5 % 4], false
		FROM generate_series(1, 14000) AS n`, pg.UUIDs(accounts), begin); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Owner.Exec(`INSERT INTO currencies VALUES ('RUB', 2), ('USDT', 6)`); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Owner.Exec(`ANALYZE orders`); err != nil {
		t.Fatal(err)
	}
	if err := b.Owner.Select(&all, `
		SELECT seq, id, account_id, amount, currency, reference, status, reason, created_at, tenant, subject
		FROM orders ORDER BY seq DESC`); err != nil {
		t.Fatal(err)
	}
	return all, accounts, begin
}

// amount is what an order of market is about, in units of its currency.
func amount(o stored) *big.Rat {
	return big.NewRat(o.Amount, map[string]int64{"RUB": 100, "USDT": 1_000_000}[o.Currency])
}

func decimal(text string) *big.Rat {
	number, _ := new(big.Rat).SetString(text)
	return number
}

// wanted is what a list must have, told without an index.
func wanted(by identity.Reach, f postgres.Filter, o stored) bool {
	reason := o.Reason
	if o.Status == order.Cancelled {
		reason = "cancelled"
	}
	return o.Tenant == by.Tenant && (by.Owner == "" || o.Subject == by.Owner) &&
		(!f.AccountID.Valid || o.AccountID == f.AccountID.UUID) &&
		(f.Reference == "" || o.Reference == f.Reference) && strings.HasPrefix(o.Reference, f.ReferencePrefix) &&
		(f.Owner == "" || o.Subject == f.Owner) && strings.HasPrefix(o.Subject, f.OwnerPrefix) &&
		(f.Status == "" || o.Status == f.Status) && (f.Reason == "" || reason == f.Reason) &&
		(f.Currency == "" || o.Currency == f.Currency) && (f.Min == "" || amount(o).Cmp(decimal(f.Min)) >= 0) &&
		(f.Max == "" || amount(o).Cmp(decimal(f.Max)) <= 0) && (f.From == nil || !o.CreatedAt.Before(*f.From)) &&
		(f.To == nil || o.CreatedAt.Before(*f.To))
}

// Whatever filters come together, a list's pages have each order that meets them all, once, newest first, and no page
// looks at more than the bound.
func TestListsAgreeWithAPlainLook(t *testing.T) {
	t.Parallel()
	b := setup(t)
	all, accounts, begin := market(t, b)
	random := rand.New(rand.NewPCG(17, uint64(time.Now().UnixNano())))
	choose := func(of ...string) string { // most often none
		return append(of, make([]string, 2*len(of))...)[random.IntN(3*len(of))]
	}
	at := func() *time.Time {
		if random.IntN(3) > 0 {
			return nil
		}
		at := begin.Add(time.Duration(random.Int64N(int64(4 * time.Hour))))
		return &at
	}
	for n := range 60 {
		f := postgres.Filter{
			Reference: choose("often 1", "Ünique 3", "none"), ReferencePrefix: choose("often", "often 1", "Ü", "Ünique 3", "x"),
			Owner: choose("alice", "bob"), OwnerPrefix: choose("ali", "alicia", "b", "z"),
			Status: order.Status(choose("pending", "failed")), Reason: choose("insufficient_funds", "cancelled"),
			Currency: choose("RUB"), Min: choose("0.000021", "0.17", "0.1701"), Max: choose("0.000033", "0.33", "0.3399"),
			From: at(), To: at(),
		}
		if random.IntN(3) == 0 {
			f.AccountID = uuid.NullUUID{UUID: accounts[random.IntN(3)], Valid: true}
		}
		if n%3 == 0 { // times alone
			f = postgres.Filter{From: at(), To: at()}
		}
		by := identity.Reach{Tenant: []string{"default", "shop", "nobody"}[random.IntN(3)], Owner: choose("alice", "alicia")}
		var want, got []uuid.UUID
		for _, o := range all {
			if wanted(by, f, o) {
				want = append(want, o.ID)
			}
		}
		limit := 1 + random.IntN(400)
		for below, pages := pg.NewestFirst, 0; below != 0; pages++ {
			page, next, err := b.store.List(t.Context(), by, f, below, limit)
			if err != nil || len(page) > limit || next >= below {
				t.Fatalf("%+v for %+v: %d of %d orders, from %d to %d: %v", f, by, len(page), limit, below, next, err)
			}
			for _, o := range page {
				got = append(got, o.ID)
			}
			if pages > len(want)/limit+len(all)/pg.MaxLooked+1 {
				t.Fatalf("%+v for %+v has no end", f, by)
			}
			below = next
		}
		if !slices.Equal(got, want) {
			t.Errorf("%+v for %+v, %d a page: %d orders, not %d", f, by, limit, len(got), len(want))
		}
	}
}

// What a filter's index does not have is not read.
func TestFiltersReadWhatTheyFind(t *testing.T) {
	t.Parallel()
	b := setup(t)
	all, accounts, begin := market(t, b)
	from, to := begin.Add(time.Hour), begin.Add(time.Hour+20*time.Second)
	byAccount := uuid.NullUUID{UUID: accounts[0], Valid: true}
	shop := identity.Reach{Tenant: "shop"}
	for _, test := range []struct {
		by   identity.Reach
		f    postgres.Filter
		most int // rows, of the table and of indexes
	}{
		{shop, postgres.Filter{}, 200},
		{shop, postgres.Filter{AccountID: byAccount}, 200},
		{shop, postgres.Filter{Owner: "bob"}, 200},
		{identity.Default, postgres.Filter{Owner: "bob"}, 200},
		{identity.Default, postgres.Filter{Reference: "often 1"}, 200},
		{shop, postgres.Filter{Reference: "often 1", AccountID: byAccount}, 2 * 14000 / 11},
		{shop, postgres.Filter{ReferencePrefix: "Ünique 3"}, 1000},
		{identity.Default, postgres.Filter{ReferencePrefix: "x"}, 10},
		{identity.Default, postgres.Filter{ReferencePrefix: "often"}, 4 * pg.MaxLooked},
		{identity.Default, postgres.Filter{Status: order.Authorized}, 2*pg.MaxLooked + 100},
		{shop, postgres.Filter{From: &from, To: &to}, 500},
		{identity.Default, postgres.Filter{From: &from, To: &to}, 1500},
	} {
		before := b.read(t)
		page, _, err := b.store.List(t.Context(), test.by, test.f, pg.NewestFirst, 50)
		if err != nil {
			t.Fatal(err)
		}
		read := b.read(t) - before
		want := 0
		for _, o := range all {
			if wanted(test.by.Normal(), test.f, o) && want < 50 {
				want++
			}
		}
		t.Logf("%+v for %+v: %d orders, %d rows read", test.f, test.by, len(page), read)
		if read > test.most || len(page) != want {
			t.Errorf("%+v for %+v: %d rows read, at most %d may be, for %d orders of %d",
				test.f, test.by, read, test.most, len(page), want)
		}
	}
}
