package inbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/contract"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/telemetry"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

func TestMain(m *testing.M) { postgrestest.CitusMain(m) }

// bundle is an inbox and a table of effects: the handler writes a row for each message, which must be there once.
type bundle struct {
	*testing.T
	postgrestest.DB
	poison sync.Map // message ID → error to fail with, or "panic"
}

// quick parks a message within a second.
var quick = Retry{Attempts: 3, First: 5 * time.Millisecond, Longest: 20 * time.Millisecond}

func setup(t *testing.T) *bundle {
	t.Parallel()
	effects := pg.Migrations{Name: "effects", FS: fstest.MapFS{"00001_effects.sql": {Data: []byte(`-- +goose Up
		CREATE TABLE effects (
			n bigint GENERATED ALWAYS AS IDENTITY, id uuid PRIMARY KEY, account_id uuid NOT NULL, payload text NOT NULL);`)}}}
	return &bundle{T: t, DB: postgrestest.Database(t, "inbox", Migrations(), effects)}
}

// text is the codec of bodies that are text already. "{broken" cannot be read.
type text struct{}

func (text) Encode(m Stored) (string, error) { return m.Body, nil }

func (text) Decode(m Stored) (string, error) {
	if m.Body == "{broken" && !m.Discarded {
		return "", errors.New("cannot be read")
	}
	return m.Body, nil
}

func (b *bundle) inbox() *Inbox[string] { return New[string](b.Service, text{}) }

func (b *bundle) handle(ctx context.Context, tx *sqlx.Tx, batch []Stored) (func(), error) {
	for _, m := range batch {
		if cause, ok := b.poison.Load(m.ID); ok {
			if err, ok := cause.(error); ok {
				return nil, err
			}
			panic(cause)
		}
		effect := m.Body
		if m.Discarded {
			effect = "discarded " + m.Kind + " " + effect
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO effects (id, account_id, payload) VALUES ($1, $2, $3)`,
			m.ID, m.AccountID, effect); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// run starts a worker and ends it with the test.
func (b *bundle) run() *Worker[string] {
	w, _ := b.runTraced(nil)
	return w
}

// runTraced is run with a tracer; end ends the worker earlier.
func (b *bundle) runTraced(tracer *telemetry.Tracer) (w *Worker[string], end func()) {
	w = NewWorker(b.inbox(), b.handle, quick, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	w.Tracer = tracer
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	end = sync.OnceFunc(func() {
		stop()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	b.Cleanup(end)
	return w, end
}

// send stores n numbered messages of each account, one after another, and returns them.
func (b *bundle) send(n int, accounts ...uuid.UUID) []Stored {
	b.Helper()
	var messages []Stored
	for i := range n {
		for _, account := range accounts {
			messages = append(messages, Stored{ID: uuid.New(), Lane: contract.Lane(account), AccountID: account, Kind: "test",
				Body: fmt.Sprint(i)})
		}
	}
	for part := range slices.Chunk(messages, 500) {
		b.insert(part)
	}
	return messages
}

func (b *bundle) insert(messages []Stored) []int64 {
	b.Helper()
	var arrivals []int64
	if err := pg.InTx(b.Context(), b.Service, func(tx *sqlx.Tx) (err error) {
		arrivals, err = b.inbox().Insert(b.Context(), tx, messages)
		return err
	}); err != nil {
		b.Fatal(err)
	}
	return arrivals
}

// until waits for a query to count n.
func (b *bundle) until(n int, query string, args ...any) {
	b.Helper()
	postgrestest.AwaitCount(b, b.Owner, n, query, args...)
}

// inOrder expects the effects of an account to be numbered from 0 to n-1 in their order.
func (b *bundle) inOrder(account uuid.UUID, n int) {
	b.Helper()
	var payloads []string
	if err := b.Owner.SelectContext(b.Context(), &payloads,
		`SELECT payload FROM effects WHERE account_id = $1 ORDER BY n`, account); err != nil {
		b.Fatal(err)
	}
	var want []string
	for i := range n {
		want = append(want, fmt.Sprint(i))
	}
	if !slices.Equal(payloads, want) {
		b.Errorf("account %s: effects %v, want 0 to %d", account, payloads, n-1)
	}
}

func accounts(n int) []uuid.UUID {
	ids := make([]uuid.UUID, n)
	for i := range ids {
		ids[i] = uuid.New()
	}
	return ids
}

func TestInsertNumbersArrivalsAndIgnoresWhatIsWaiting(t *testing.T) {
	b := setup(t)
	a := uuid.New()
	message := func(id uuid.UUID) Stored {
		return Stored{ID: id, Lane: contract.Lane(a), AccountID: a, Kind: "test", Body: "{}",
			Fingerprint: uuid.NullUUID{UUID: id, Valid: true}, Traceparent: "trace"}
	}
	one, two, three := uuid.New(), uuid.New(), uuid.New()
	first := b.insert([]Stored{message(one), message(one), message(two)})
	second := b.insert([]Stored{message(two), message(three), message(one)})
	if first[0] == 0 || first[1] != 0 || first[2] <= first[0] || second[0] != 0 || second[1] <= first[2] ||
		second[2] != 0 {
		t.Errorf("arrivals %v, then %v", first, second)
	}
	var stored []Stored
	if err := b.Service.SelectContext(t.Context(), &stored,
		`SELECT seq, id, lane, account_id, kind, payload, fingerprint, traceparent, received_at
			FROM inbox ORDER BY seq`); err != nil {
		t.Fatal(err)
	}
	want := message(two)
	want.Seq, want.ReceivedAt = first[2], stored[1].ReceivedAt
	if len(stored) != 3 || stored[1] != want {
		t.Errorf("stored %+v", stored)
	}
}

func TestManyWorkersSettleEachMessageOnceInOrder(t *testing.T) {
	b := setup(t)
	clients := accounts(100)
	for range 4 {
		b.run()
	}
	messages := b.send(20, clients...)
	b.until(len(messages), `SELECT count(*) FROM effects`)
	b.until(0, `SELECT count(*) FROM inbox`)
	for _, client := range clients {
		b.inOrder(client, 20)
	}
}

func TestAFailingMessageStopsItsAccountAlone(t *testing.T) {
	for name, cause := range map[string]any{"an error": errors.New("cannot"), "a panic": "cannot",
		"an error that cannot be stored as it is": errors.New("cannot \x00\xff")} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			clients := accounts(50)
			messages := b.send(10, clients...)
			victim := clients[7]
			bad := messages[3*50+7] // the victim's message number 3
			b.poison.Store(bad.ID, cause)
			b.run()
			b.until(49*10+3, `SELECT count(*) FROM effects`)
			b.inOrder(victim, 3)

			// It is parked in the end, and what arrives for the account waits behind it.
			b.until(1, `SELECT count(*) FROM inbox_stops WHERE message_id = $1
				AND retry_at IS NULL AND attempts = 3 AND NOT probing AND reason LIKE '%cannot%'`, bad.ID)
			late := Stored{ID: uuid.New(), Lane: contract.Lane(victim), AccountID: victim, Kind: "test", Body: "10"}
			b.insert([]Stored{late})
			b.until(8, `SELECT count(*) FROM inbox WHERE stopped`)
			b.until(0, `SELECT count(*) FROM inbox WHERE NOT stopped`)

			// Once it is mended and let go, everything follows in order.
			b.poison.Delete(bad.ID)
			if _, err := b.Owner.ExecContext(t.Context(), `UPDATE inbox_stops SET retry_at = now()`); err != nil {
				t.Fatal(err)
			}
			b.until(50*10+1, `SELECT count(*) FROM effects`)
			b.inOrder(victim, 11)
			b.until(0, `SELECT (SELECT count(*) FROM inbox) + (SELECT count(*) FROM inbox_stops)`)
		})
	}
}

// A reason is for an operator to read, also where no error of another's is behind it.
func TestTheReasonOfAMessageThatIsGone(t *testing.T) {
	b := setup(t)
	m := b.send(1, uuid.New())[0]
	w := NewWorker(b.inbox(), func(ctx context.Context, tx *sqlx.Tx, batch []Stored) (func(), error) {
		_, err := tx.ExecContext(ctx, `DELETE FROM inbox WHERE id = $1`, m.ID)
		return nil, err
	}, quick, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if _, err := w.runOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	var reason string
	if err := b.Owner.GetContext(t.Context(), &reason, `SELECT reason FROM inbox_stops WHERE message_id = $1`,
		m.ID); err != nil || reason != "inbox: delete what is settled: 0 rows changed instead of 1" {
		t.Errorf("%q, %v", reason, err)
	}
}

// What the codec cannot decode has failed like what the handler refuses.
func TestAMessageThatCannotBeDecodedStopsItsAccountAlone(t *testing.T) {
	b := setup(t)
	clients := accounts(20)
	messages := make([]Stored, len(clients))
	for i, client := range clients {
		messages[i] = message(client, 0)
	}
	messages[7].Body = "{broken"
	b.insert(messages)
	b.run()
	b.until(19, `SELECT count(*) FROM effects`)
	b.until(1, `SELECT count(*) FROM inbox_stops WHERE message_id = $1
		AND retry_at IS NULL AND NOT probing AND reason = 'cannot be read'`, messages[7].ID)
	if _, err := b.operators().Discard(t.Context(), messages[7].ID, "no use", unrecorded); err != nil {
		t.Fatal(err)
	}
	b.until(20, `SELECT count(*) FROM effects`)
	b.until(0, `SELECT (SELECT count(*) FROM inbox) + (SELECT count(*) FROM inbox_stops)`)
}

func TestAMessageThatHealsIsRetriedByItself(t *testing.T) {
	b := setup(t)
	client := uuid.New()
	messages := b.send(5, client)
	b.poison.Store(messages[2].ID, errors.New("not yet"))
	w := b.run()
	w.Wake()
	b.until(1, `SELECT count(*) FROM inbox_stops`)
	b.poison.Delete(messages[2].ID)
	b.until(5, `SELECT count(*) FROM effects`)
	b.inOrder(client, 5)
}

// Trouble of the database is no attempt of the message: nothing is parked, nothing is lost or done twice.
func TestLostConnections(t *testing.T) {
	b := setup(t)
	var cut atomic.Int32
	handle := func(ctx context.Context, tx *sqlx.Tx, batch []Stored) (func(), error) {
		committed, err := b.handle(ctx, tx, batch)
		if cut.Add(1) <= 3 {
			// The server ends the session in the middle of the transaction.
			_, err = tx.ExecContext(ctx, `SELECT pg_terminate_backend(pg_backend_pid())`)
		}
		return committed, err
	}
	w := NewWorker(b.inbox(), handle, quick, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	client := uuid.New()
	b.send(100, client)
	for settled := 0; settled < 100; {
		n, err := w.runOnce(t.Context())
		if err != nil && !pg.IsUnavailable(err) {
			t.Fatal(err)
		}
		if err == nil {
			settled += n
		}
	}
	b.inOrder(client, 100)
	b.until(0, `SELECT (SELECT count(*) FROM inbox) + (SELECT count(*) FROM inbox_stops)`)
	if cut.Load() != 4 {
		t.Errorf("settled in %d attempts, want 3 that were cut and one that was not", cut.Load())
	}
}

// While a worker looks for the message that fails a batch, another one may hold the lane for a moment and keep it from
// the first half: the second half must not overtake it.
func TestAPartOfABatchOvertakesNothing(t *testing.T) {
	b := setup(t)
	w := NewWorker(b.inbox(), b.handle, quick, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	account, other := uuid.New(), uuid.New()
	messages := b.send(6, account)
	b.poison.Store(messages[1].ID, errors.New("cannot"))
	batch, err := w.settle(t.Context(), nil, nil)
	if err == nil || len(batch.rows) != 6 {
		t.Fatalf("claimed %d, %v", len(batch.rows), err)
	}
	b.send(1, other)
	if rest, err := w.settle(t.Context(), batch.rows, batch.rows[3:]); err != nil || len(rest.rows) != 0 {
		t.Errorf("settled %+v, %v", rest.rows, err)
	}
	b.inOrder(account, 0)
	if first, err := w.settle(t.Context(), batch.rows, batch.rows[:1]); err != nil || len(first.rows) != 1 {
		t.Errorf("settled %+v, %v", first.rows, err)
	}
	if rest, err := w.settle(t.Context(), batch.rows, batch.rows[2:]); err != nil || len(rest.rows) != 0 {
		t.Errorf("settled %+v, %v", rest.rows, err)
	}
	b.inOrder(account, 1)
	b.poison.Delete(messages[1].ID)
	for settled := 0; settled < 6; { // on Citus, the two lanes may take two batches
		n, err := w.runOnce(t.Context())
		if n == 0 || err != nil {
			t.Fatalf("settled %d, %v", n, err)
		}
		settled += n
	}
	b.inOrder(account, 6)
	b.inOrder(other, 1)
}

// A transaction that holds a lane keeps others from it, and from it alone.
func TestALaneBelongsToOneTransaction(t *testing.T) {
	b := setup(t)
	one, other := uuid.New(), uuid.New()
	for contract.Lane(other) == contract.Lane(one) {
		other = uuid.New()
	}
	b.send(1, one, other)
	blocker, err := b.Service.BeginTxx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer blocker.Rollback()
	if _, err := blocker.ExecContext(t.Context(), `SELECT pg_advisory_xact_lock($1, $2)`, lockClass,
		contract.Lane(one)); err != nil {
		t.Fatal(err)
	}
	w := NewWorker(b.inbox(), b.handle, quick, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if n, err := w.runOnce(t.Context()); n != 1 || err != nil {
		t.Fatalf("settled %d, %v; want the other lane's one", n, err)
	}
	b.inOrder(other, 1)
	if err := blocker.Rollback(); err != nil {
		t.Fatal(err)
	}
	if n, err := w.runOnce(t.Context()); n != 1 || err != nil {
		t.Fatalf("settled %d, %v once the lane was free", n, err)
	}
}

// Of the workers of a process one looks for what other processes have stored; while that one is at work, another does.
func TestWhileAWorkerIsAtWorkAnotherLooks(t *testing.T) {
	b := setup(t)
	slow, other := uuid.New(), uuid.New()
	for contract.Lane(other) == contract.Lane(slow) {
		other = uuid.New()
	}
	begun, end := make(chan struct{}), make(chan struct{})
	w := NewWorker(b.inbox(), func(ctx context.Context, tx *sqlx.Tx, batch []Stored) (func(), error) {
		if batch[0].AccountID == slow {
			close(begun)
			<-end
		}
		return b.handle(ctx, tx, batch)
	}, quick, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	ctx, stop := context.WithCancel(t.Context())
	var workers sync.WaitGroup
	for range 2 {
		workers.Go(func() { _ = w.Run(ctx) })
	}
	b.send(1, slow)
	<-begun
	b.send(1, other)
	b.until(1, `SELECT count(*) FROM effects WHERE account_id = $1`, other)
	close(end)
	b.until(2, `SELECT count(*) FROM effects`)
	stop()
	workers.Wait()
}

// What comes in for an account that stands still is set aside without a look at all that waits.
func TestSettingAsideReadsNoOtherMessages(t *testing.T) {
	b := setup(t)
	stopped := uuid.New()
	lane := contract.Lane(stopped)
	other := uuid.New()
	for contract.Lane(other) == lane {
		other = uuid.New()
	}
	messages := b.send(1, stopped)
	messages[0].Seq = 1
	if _, err := b.Owner.ExecContext(t.Context(), `
		INSERT INTO inbox (id, lane, account_id, kind, payload)
		SELECT gen_random_uuid(), $1, $2, 'test', '{}' FROM generate_series(1, 20000)`,
		contract.Lane(other), other); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Owner.ExecContext(t.Context(), `
		INSERT INTO inbox_stops (account_id, lane, message_id, attempts, reason)
		VALUES ($1, $2, gen_random_uuid(), 1, 'bad')`,
		stopped, lane); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Owner.ExecContext(t.Context(), `ANALYZE inbox`); err != nil {
		t.Fatal(err)
	}
	if err := pg.InTx(t.Context(), b.Service, func(tx *sqlx.Tx) error {
		batch, err := reclaim(t.Context(), tx, messages, messages, b.inbox().exempt)
		if err != nil || len(batch.rows) != 0 {
			t.Errorf("%d messages of an account that stands still: %v", len(batch.rows), err)
		}
		var flagged, scans int
		if err := tx.GetContext(t.Context(), &flagged, `SELECT count(*) FROM inbox WHERE account_id = $1 AND stopped`,
			stopped); err != nil {
			return err
		}
		if err := tx.GetContext(t.Context(), &scans,
			`SELECT seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'inbox'`); err != nil {
			return err
		}
		if flagged != 1 || scans != 0 {
			t.Errorf("%d messages were set aside; %d were read for it", flagged, scans)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// A long queue in one lane does not keep the worker from the others.
func TestALongQueueDoesNotStarveOthers(t *testing.T) {
	b := setup(t)
	hot := uuid.New()
	b.send(3*batchSize, hot)
	cold := b.send(1, accounts(20)...)
	w := NewWorker(b.inbox(), b.handle, quick, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	for range 3 {
		if _, err := w.runOnce(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var settled int
	if err := b.Owner.GetContext(t.Context(), &settled, `SELECT count(*) FROM effects WHERE account_id <> $1`,
		hot); err != nil {
		t.Fatal(err)
	}
	if settled == 0 {
		t.Errorf("after three batches none of %d other accounts was served", len(cold))
	}
}
