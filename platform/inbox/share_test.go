package inbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// flood stores n messages of a tenant in one statement, in turn of this many accounts. Their bodies count by account.
func (b *bundle) flood(tenant string, n, accounts int) {
	b.Helper()
	ids := make(pg.UUIDs, accounts)
	lanes := make(pg.Int16s, accounts)
	for i := range ids {
		ids[i] = uuid.New()
		lanes[i] = contract.Lane(ids[i])
	}
	if _, err := b.Owner.ExecContext(b.Context(), `
		INSERT INTO inbox (id, lane, account_id, kind, payload, tenant)
		SELECT gen_random_uuid(), ($2::smallint[])[1 + n % $3], ($1::uuid[])[1 + n % $3], 'test', (n / $3)::text, $5
		FROM generate_series(0, $4 - 1) AS n ORDER BY n`, ids, lanes, accounts, n, tenant); err != nil {
		b.Fatal(err)
	}
}

// of makes n numbered messages of a tenant, each of an account of its own.
func of(tenant string, n int) (messages []Stored) {
	for _, account := range accounts(n) {
		messages = append(messages, Stored{ID: uuid.New(), Lane: contract.Lane(account), AccountID: account, Kind: "test",
			Body: "0", Tenant: tenant})
	}
	return messages
}

// journal is a handler that remembers what was settled, and in which order.
type journal struct {
	*testing.T
	settled map[uuid.UUID]bool
	next    map[uuid.UUID]int // by account
}

func newJournal(t *testing.T) *journal {
	return &journal{t, make(map[uuid.UUID]bool), make(map[uuid.UUID]int)}
}

func (j *journal) handle(_ context.Context, _ *sqlx.Tx, batch []Stored) (func(), error) {
	for _, m := range batch {
		if j.settled[m.ID] {
			j.Errorf("message %s is settled twice", m.ID)
		}
		if want := fmt.Sprint(j.next[m.AccountID]); m.Body != want {
			j.Errorf("account %s: message %s instead of %s", m.AccountID, m.Body, want)
		}
		j.settled[m.ID] = true
		j.next[m.AccountID]++
	}
	return nil, nil
}

// While 50,000 messages of one tenant wait, those of another one are settled by the next claim, wherever in the queues
// they are, or by the second one where the worker does not know yet how much waits. Nothing is lost, and each account
// keeps its order.
func TestATenantGetsItsShareOfABatch(t *testing.T) {
	const many = 50_000
	b, j := setup(t), newJournal(t)
	w := NewWorker(b.inbox(), j.handle, quick, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	once := func() int {
		n, err := w.runOnce(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	b.flood("loud", many, 2000)
	quiet, claims := of("quiet", 10), []int{2, 1, 1}
	total := many
	for _, n := range claims {
		b.insert(quiet)
		total += len(quiet)
		for range n {
			if settled := once(); settled != batchSize {
				t.Fatalf("a batch of %d messages", settled)
			}
		}
		for _, m := range quiet {
			if !j.settled[m.ID] {
				t.Fatalf("after %d claims a message of the quiet tenant waits", n)
			}
		}
		quiet = of("quiet", 10)
	}
	for once() > 0 {
	}
	if len(j.settled) != total {
		t.Errorf("%d messages of %d were settled", len(j.settled), total)
	}
}

// Whatever waits, a claim is full where enough does, each waiting tenant has its share, and each account its order.
func TestSharesByChance(t *testing.T) {
	const limit, rounds = 40, 150
	b, j := setup(t), newJournal(t)
	tenants := []string{"a", "b", "c", "d", identity.DefaultTenant, ""}
	clients := accounts(30)
	sent, waiting := make(map[uuid.UUID]int), make(map[uuid.UUID]string)
	random := rand.New(rand.NewPCG(1, 2)) // the lanes and interleavings differ each time all the same
	var turn *string
	for round := range rounds {
		var messages []Stored
		for range random.IntN(100) * (rounds - round) / rounds {
			// Most messages are the first tenant's.
			n := random.IntN(len(clients)) * random.IntN(2)
			account := clients[n]
			m := Stored{ID: uuid.New(), Lane: contract.Lane(account) % 4, AccountID: account, Kind: "test",
				Body: fmt.Sprint(sent[account]), Tenant: tenants[n%len(tenants)]}
			sent[account]++
			waiting[m.ID] = strings.TrimPrefix(m.Tenant, identity.DefaultTenant)
			messages = append(messages, m)
		}
		b.insert(messages)
		want := make(map[string]int) // by tenant
		for _, tenant := range waiting {
			if turn != nil && tenant != "" {
				want[tenant]++
			}
		}
		if err := pg.InTx(t.Context(), b.Service, func(tx *sqlx.Tx) error {
			c, next, err := claim(t.Context(), tx, pg.AllLanes(), turn, limit, b.inbox().exempt)
			if err != nil {
				return err
			}
			if len(c.rows) != min(limit, len(waiting)) {
				t.Fatalf("a claim of %d messages, %d wait", len(c.rows), len(waiting))
			}
			got := make(map[string]int)
			for _, m := range c.rows {
				got[waiting[m.ID]]++
				delete(waiting, m.ID)
			}
			for tenant, n := range want {
				if got[tenant] < min(n, limit/2/len(want)) {
					t.Errorf("of the %d messages of tenant %s that wait %d are claimed, with %d tenants", n, tenant, got[tenant],
						len(want))
				}
			}
			turn = next
			if _, err := j.handle(t.Context(), tx, c.rows); err != nil {
				return err
			}
			return c.remove(t.Context(), tx)
		}); err != nil {
			t.Fatal(err)
		}
	}
	if len(waiting) > 0 || len(j.settled) < 1000 {
		t.Errorf("%d messages were settled, %d wait", len(j.settled), len(waiting))
	}
}

// More tenants than have a share of one batch take turns, though the first ones have more than their share.
func TestManyTenantsTakeTurns(t *testing.T) {
	b, j := setup(t), newJournal(t)
	w := NewWorker(b.inbox(), j.handle, quick, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	b.flood("loud", 50*batchSize, 1000)
	quiet := make(map[string][]Stored)
	for i := range 2*maxTenants + 10 {
		tenant := fmt.Sprintf("quiet-%d", i)
		quiet[tenant] = of(tenant, 20)
		b.insert(quiet[tenant])
	}
	for range 4 { // one that does not know yet how much waits, and three turns
		if _, err := w.runOnce(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for tenant, messages := range quiet {
		if !slices.ContainsFunc(messages, func(m Stored) bool { return j.settled[m.ID] }) {
			t.Errorf("all messages of tenant %s wait", tenant)
		}
	}
}

// A message that fails is found in a tenant's share too, and stops its account alone.
func TestAFailingMessageInAShare(t *testing.T) {
	b := setup(t)
	b.flood("loud", 3*batchSize, 3)
	quiet := of("quiet", 5)
	b.insert(quiet)
	var owners []uuid.UUID
	for _, m := range quiet {
		owners = append(owners, m.AccountID)
	}
	b.poison.Store(quiet[2].ID, errors.New("cannot"))
	w := NewWorker(b.inbox(), b.handle, quick, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	for range 2 {
		if _, err := w.runOnce(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	b.until(4, `SELECT count(*) FROM effects e WHERE NOT EXISTS (SELECT FROM inbox i WHERE i.id = e.id)
		AND account_id = ANY ($1)`, pg.UUIDs(owners))
	b.until(1, `SELECT count(*) FROM inbox_stops WHERE message_id = $1`, quiet[2].ID)
	b.until(1, `SELECT count(*) FROM inbox_stops`)
	b.until(2*batchSize-1, `SELECT count(*) FROM effects`)
}

// Of a message without a tenant it is not known whose it is. It takes effect in its account's order, and as long as it
// waits there are no shares.
func TestMessagesOfUnknownTenants(t *testing.T) {
	b := setup(t)
	unknown := func(account uuid.UUID, body string) {
		if _, err := b.Service.ExecContext(t.Context(), `
			INSERT INTO inbox (id, lane, account_id, kind, payload) VALUES (gen_random_uuid(), $1, $2, 'test', $3)`,
			contract.Lane(account), account, body); err != nil {
			t.Fatal(err)
		}
	}
	account := uuid.New()
	unknown(account, "0")
	unknown(account, "1")
	later := Stored{ID: uuid.New(), Lane: contract.Lane(account), AccountID: account, Kind: "test", Body: "2",
		Tenant: "quiet"}
	b.insert([]Stored{later})
	j := newJournal(t)
	for _, want := range []int{2, 1} {
		if err := pg.InTx(t.Context(), b.Service, func(tx *sqlx.Tx) error {
			c, _, err := claim(t.Context(), tx, pg.AllLanes(), new(string), 2, b.inbox().exempt)
			if err != nil {
				return err
			}
			if len(c.rows) != want {
				t.Errorf("%d messages claimed instead of %d", len(c.rows), want)
			}
			if _, err := j.handle(t.Context(), tx, c.rows); err != nil {
				return err
			}
			return c.remove(t.Context(), tx)
		}); err != nil {
			t.Fatal(err)
		}
	}
	if j.next[account] != 3 {
		t.Errorf("%d messages settled", j.next[account])
	}
}

// A claim reads little, however much of whom waits, by the plans that were made while little did.
func TestClaimingReadsLittle(t *testing.T) {
	b, j := setup(t), newJournal(t)
	b.Service.SetMaxOpenConns(1) // one session, which keeps its plans
	read := func() {
		t.Helper()
		var before, after, whole int
		rows := `SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables
			WHERE relname = 'inbox'`
		if err := pg.InTx(t.Context(), b.Service, func(tx *sqlx.Tx) error {
			if err := tx.GetContext(t.Context(), &before, rows); err != nil {
				return err
			}
			c, _, err := claim(t.Context(), tx, pg.AllLanes(), new(string), batchSize, b.inbox().exempt)
			if err != nil {
				return err
			}
			if err := tx.GetContext(t.Context(), &after, rows); err != nil {
				return err
			}
			if err := tx.GetContext(t.Context(), &whole, `SELECT count(*) FROM inbox`); err != nil {
				return err
			}
			if _, err := j.handle(t.Context(), tx, c.rows); err != nil {
				return err
			}
			if after-before > 6*batchSize {
				t.Errorf("a claim of %d messages has read %d of %d", len(c.rows), after-before, whole)
			}
			return c.remove(t.Context(), tx)
		}); err != nil {
			t.Fatal(err)
		}
	}
	for range 12 { // more often than it takes the server to keep a plan
		b.insert(slices.Concat(of("loud", 2), of("quiet", 2), of("", 2)))
		read()
	}
	b.flood("loud", 100_000, 2000)
	b.insert(of("quiet", 10))
	read()
	if _, err := b.Owner.ExecContext(t.Context(), `ANALYZE inbox`); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		b.insert(of("quiet", 10))
		read()
	}
	if n := len(j.settled); n < 4*batchSize {
		t.Errorf("%d messages were settled", n)
	}
}
