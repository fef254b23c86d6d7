package inbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/contract"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

func (b *bundle) worker() *Worker[string] {
	return NewWorker(b.inbox(), b.handle, quick, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
}

func (b *bundle) intake(w *Worker[string]) *Intake[string] { return NewIntake(b.inbox(), w) }

func message(account uuid.UUID, payload int) Stored {
	return Stored{ID: uuid.New(), Lane: contract.Lane(account), AccountID: account, Kind: "test",
		Body: fmt.Sprint(payload)}
}

func (b *bundle) accept(in *Intake[string], messages ...Stored) []int64 {
	b.Helper()
	arrivals, err := in.Accept(b.Context(), messages...)
	if err != nil {
		b.Fatal(err)
	}
	seqs := make([]int64, len(arrivals))
	for i, arrival := range arrivals {
		seqs[i] = arrival.Seq
	}
	return seqs
}

// drain settles what is stored.
func (b *bundle) drain(w *Worker[string]) {
	b.Helper()
	for {
		n, err := w.runOnce(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		if n == 0 {
			return
		}
	}
}

func (b *bundle) count(n int, query string, args ...any) {
	b.Helper()
	var got int
	if err := b.Owner.GetContext(b.Context(), &got, query, args...); err != nil || got != n {
		b.Errorf("%s: %d, %v; want %d", query, got, err, n)
	}
}

func TestAcceptedMessagesTakeEffectAtOnce(t *testing.T) {
	b := setup(t)
	var seen []Stored
	committed := 0
	w := NewWorker(b.inbox(), func(ctx context.Context, tx *sqlx.Tx, batch []Stored) (func(), error) {
		seen = append(seen, batch...)
		_, err := b.handle(ctx, tx, batch)
		return func() { committed++ }, err
	}, quick, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	in := b.intake(w)
	one, other := uuid.New(), uuid.New()
	first := b.accept(in, message(one, 0), message(other, 0), message(one, 1))
	second := b.accept(in, message(other, 1))
	if first[0] <= 0 || first[1] <= first[0] || first[2] <= first[1] || second[0] <= first[2] {
		t.Errorf("arrivals %v, then %v", first, second)
	}
	if len(seen) != 4 || seen[2].Seq != first[2] || time.Since(seen[2].ReceivedAt).Abs() > time.Hour || committed != 2 {
		t.Errorf("handled %+v, committed %d times", seen, committed)
	}
	b.inOrder(one, 2)
	b.inOrder(other, 2)
	b.count(0, `SELECT count(*) FROM inbox`)
}

// A large batch is accepted in two halves of the lanes at the same time.
func TestALargeBatchIsAccepted(t *testing.T) {
	b := setup(t)
	in := b.intake(b.worker())
	clients := accounts(100)
	var messages []Stored
	for n := range 8 {
		for _, client := range clients {
			messages = append(messages, message(client, n))
		}
	}
	last := map[uuid.UUID]int64{}
	for i, arrival := range b.accept(in, messages...) {
		if m := messages[i]; arrival <= last[m.AccountID] {
			t.Fatalf("message %d has arrival number %d after %d", i, arrival, last[m.AccountID])
		}
		last[messages[i].AccountID] = arrival
	}
	for _, client := range clients {
		b.inOrder(client, 8)
	}
	b.count(0, `SELECT count(*) FROM inbox`)
}

// While one half of the lanes is being accepted, so is the other one; what has messages of both waits for both.
func TestHalvesOfTheLanesDoNotWaitForEachOther(t *testing.T) {
	b := setup(t)
	slow, other := uuid.New(), uuid.New()
	for half(contract.Lane(other)) == half(contract.Lane(slow)) {
		other = uuid.New()
	}
	begun, end := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w := NewWorker(b.inbox(), func(ctx context.Context, tx *sqlx.Tx, batch []Stored) (func(), error) {
		if batch[0].AccountID == slow {
			once.Do(func() {
				close(begun)
				<-end
			})
		}
		return b.handle(ctx, tx, batch)
	}, quick, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	in := b.intake(w)
	var calls sync.WaitGroup
	calls.Go(func() {
		if _, err := in.Accept(t.Context(), message(slow, 0)); err != nil {
			t.Error(err)
		}
	})
	<-begun
	b.accept(in, message(other, 0))
	b.inOrder(other, 1)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := in.acceptNow(ended, []Stored{message(other, 1), message(slow, 1)}); !errors.Is(err, context.Canceled) {
		t.Errorf("what has messages of both halves did not wait until its context's end: %v", err)
	}
	close(end)
	calls.Wait()
	b.accept(in, message(other, 1), message(slow, 1)) // the one that gave up has left nothing behind
	b.inOrder(slow, 2)
	b.inOrder(other, 2)
}

func TestTheSameMessageTwiceInOneCallIsOne(t *testing.T) {
	b := setup(t)
	m := message(uuid.New(), 0)
	if arrivals := b.accept(b.intake(b.worker()), m, m); arrivals[0] == 0 || arrivals[1] != 0 {
		t.Errorf("arrivals %v", arrivals)
	}
	b.inOrder(m.AccountID, 1)
}

func TestWhatHasOthersAheadIsStored(t *testing.T) {
	b := setup(t)
	w := b.worker()
	in := b.intake(w)
	account, other := uuid.New(), uuid.New()
	for contract.Lane(other) == contract.Lane(account) {
		other = uuid.New()
	}
	waiting := b.send(1, account)[0]
	next := message(account, 1)
	arrivals := b.accept(in, next, message(other, 0), waiting, message(account, 2))
	if arrivals[0] == 0 || arrivals[1] == 0 || arrivals[2] != 0 || arrivals[3] <= arrivals[0] {
		t.Errorf("arrivals %v", arrivals)
	}
	b.inOrder(other, 1)
	b.inOrder(account, 0)
	if again := b.accept(in, next); again[0] != 0 {
		t.Errorf("a message that waits was accepted again: %v", again)
	}
	b.drain(w)
	b.inOrder(account, 3)
	b.accept(in, message(account, 3))
	b.inOrder(account, 4)
	b.count(0, `SELECT count(*) FROM inbox`)
}

// Another process that settles a lane is not waited for.
func TestWhatComesForABusyLaneIsStored(t *testing.T) {
	b := setup(t)
	w := b.worker()
	in := b.intake(w)
	one, other := uuid.New(), uuid.New()
	for contract.Lane(other) == contract.Lane(one) {
		other = uuid.New()
	}
	blocker, err := b.Service.BeginTxx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer blocker.Rollback()
	if err := lockLane(t.Context(), blocker, contract.Lane(one)); err != nil {
		t.Fatal(err)
	}
	b.accept(in, message(one, 0), message(other, 0))
	b.inOrder(one, 0)
	b.inOrder(other, 1)
	if err := blocker.Rollback(); err != nil {
		t.Fatal(err)
	}
	b.accept(in, message(one, 1))
	b.inOrder(one, 0)
	b.drain(w)
	b.inOrder(one, 2)
}

func TestWhatComesForAStoppedAccountIsStored(t *testing.T) {
	b := setup(t)
	w := b.worker()
	in := b.intake(w)
	stopped := uuid.New()
	neighbour := uuid.New() // in the same lane
	for contract.Lane(neighbour) != contract.Lane(stopped) {
		neighbour = uuid.New()
	}
	bad := message(stopped, 0)
	b.poison.Store(bad.ID, errors.New("cannot"))
	b.accept(in, bad)
	b.drain(w)
	b.count(1, `SELECT count(*) FROM inbox_stops`)
	b.accept(in, message(stopped, 1), message(neighbour, 0))
	b.inOrder(stopped, 0)
	b.inOrder(neighbour, 1)
	b.poison.Delete(bad.ID)
	if _, err := b.Owner.ExecContext(t.Context(), `UPDATE inbox_stops SET retry_at = now()`); err != nil {
		t.Fatal(err)
	}
	b.drain(w) // sets aside what came meanwhile
	if _, err := w.probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.drain(w)
	b.inOrder(stopped, 2)
	b.accept(in, message(stopped, 2))
	b.inOrder(stopped, 3)
}

// What is exempt takes effect while its account is stopped, be it accepted or stored; nothing else of it does, and
// nothing of a lane that is busy. What a version does not know, it cannot tell to be exempt.
func TestWhatIsApartDoesNotWait(t *testing.T) {
	b := setup(t)
	box := New[string](b.Service, older{})
	box.Exempt = func(_ context.Context, _ *sqlx.Tx, messages []Stored) ([]bool, error) {
		exempt := make([]bool, len(messages))
		for i, m := range messages {
			exempt[i] = m.Kind != "test"
		}
		return exempt, nil
	}
	w := NewWorker(box, b.handle, quick, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	account := uuid.New()
	if _, err := b.Owner.Exec(`INSERT INTO inbox_stops (account_id, lane, message_id, attempts, reason)
		VALUES ($1, $2, gen_random_uuid(), 8, 'bad')`, account, contract.Lane(account)); err != nil {
		t.Fatal(err)
	}
	messages := []Stored{message(account, 0), message(account, 1), message(account, 2), message(account, 3)}
	messages[1].Kind, messages[3].Kind = "exempt", "exempt"
	b.accept(NewIntake(box, w), messages[:2]...)
	b.count(1, `SELECT count(*) FROM effects WHERE payload = '1'`)
	b.insert(messages[2:])
	b.drain(w)
	b.count(1, `SELECT count(*) FROM effects WHERE payload = '3'`)
	strange := message(account, 4)
	strange.Kind, strange.Body, strange.Unknown = "new", "", "4"
	b.accept(NewIntake(box, w), strange)
	b.count(2, `SELECT count(*) FROM effects`)
	b.count(2, `SELECT count(*) FROM inbox WHERE stopped AND payload IN ('0', '2')`)
	b.count(3, `SELECT count(*) FROM inbox`)
}

// A message that fails takes no other one with it: all are stored, and it is found among them.
func TestAFailingMessageIsFoundAmongTheAccepted(t *testing.T) {
	for name, cause := range map[string]any{"an error": errors.New("cannot"), "a panic": "cannot"} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			in := b.intake(b.run())
			clients := accounts(30)
			messages := make([]Stored, len(clients))
			for i, client := range clients {
				messages[i] = message(client, 0)
			}
			b.poison.Store(messages[11].ID, cause)
			for i, arrival := range b.accept(in, messages...) {
				if arrival == 0 {
					t.Errorf("message %d was not accepted", i)
				}
			}
			b.until(29, `SELECT count(*) FROM effects`)
			b.until(1, `SELECT count(*) FROM inbox_stops WHERE message_id = $1 AND retry_at IS NULL AND NOT probing`,
				messages[11].ID)
			b.count(1, `SELECT count(*) FROM inbox`)
		})
	}
}

// The server ends the session in the middle of a call: nothing was accepted, nothing is stopped for it, and the same
// call succeeds when it is made again.
func TestAcceptLosesItsConnection(t *testing.T) {
	b := setup(t)
	lost := true
	w := NewWorker(b.inbox(), func(ctx context.Context, tx *sqlx.Tx, batch []Stored) (func(), error) {
		committed, err := b.handle(ctx, tx, batch)
		if lost {
			_, err = tx.ExecContext(ctx, `SELECT pg_terminate_backend(pg_backend_pid())`)
		}
		return committed, err
	}, quick, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	in := b.intake(w)
	account := uuid.New()
	messages := []Stored{message(account, 0), message(account, 1)}
	if _, err := in.Accept(t.Context(), messages...); !pg.IsUnavailable(err) {
		t.Fatalf("got %v", err)
	}
	b.count(0, `SELECT (SELECT count(*) FROM effects) + (SELECT count(*) FROM inbox) + (SELECT count(*) FROM inbox_stops)`)
	lost = false
	b.accept(in, messages...)
	b.inOrder(account, 2)
}

// Several processes accept for the same accounts, some messages twice, while workers settle what had to be stored.
func TestManyAcceptEachMessageOnceInOrder(t *testing.T) {
	b := setup(t)
	const processes, rounds = 3, 60
	clients := accounts(processes * 20)
	settle := func(ctx context.Context, tx *sqlx.Tx, batch []Stored) (func(), error) {
		for _, m := range batch { // as the ledger does, by a permanent record
			if _, err := tx.ExecContext(ctx, `INSERT INTO effects (id, account_id, payload) VALUES ($1, $2, $3)
				ON CONFLICT DO NOTHING`,
				m.ID, m.AccountID, m.Body); err != nil {
				return nil, err
			}
		}
		return nil, nil
	}
	ctx, stop := context.WithCancel(t.Context())
	var workers, senders sync.WaitGroup
	for p := range processes {
		w := NewWorker(b.inbox(), settle, quick, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		in := b.intake(w)
		workers.Go(func() {
			if err := w.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		own := clients[p*20:][:20] // an account's order is that of one sender; the lanes are shared by all
		senders.Go(func() {
			for n := range rounds {
				var batch []Stored
				for _, client := range own {
					batch = append(batch, message(client, n))
				}
				for range 2 {
					if _, err := in.Accept(ctx, batch...); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	senders.Wait()
	b.until(0, `SELECT count(*) FROM inbox`)
	stop()
	workers.Wait()
	for _, client := range clients {
		b.inOrder(client, rounds)
	}
	b.count(0, `SELECT count(*) FROM inbox_stops`)
}

// Messages of different calls share a transaction, those of one call stay together and in their order, and messages of
// the two halves of the lanes do not wait for each other.
func TestCallsAreAcceptedTogether(t *testing.T) {
	b := setup(t)
	one, other := uuid.New(), uuid.New()
	for half(contract.Lane(other)) == half(contract.Lane(one)) {
		other = uuid.New()
	}
	var mu sync.Mutex
	var batches [][]uuid.UUID // whose messages were handled together
	begun, hold := make(chan struct{}), make(chan struct{})
	in := b.intake(NewWorker(b.inbox(), func(ctx context.Context, tx *sqlx.Tx, batch []Stored) (func(), error) {
		var owners []uuid.UUID
		for _, m := range batch {
			owners = append(owners, m.AccountID)
		}
		mu.Lock()
		batches = append(batches, owners)
		first := len(batches) == 1
		mu.Unlock()
		if first {
			close(begun)
			<-hold
		}
		return b.handle(ctx, tx, batch)
	}, quick, slog.New(slog.DiscardHandler), prometheus.NewRegistry()))
	var calls sync.WaitGroup
	accept := func(messages ...Stored) {
		calls.Go(func() {
			if arrivals, err := in.Accept(t.Context(), messages...); err != nil || len(arrivals) != len(messages) {
				t.Errorf("%v, %v", arrivals, err)
			}
		})
	}
	accept(message(one, 0))
	<-begun
	b.accept(in, message(other, 0)) // which does not wait for the first one
	accept(message(one, 1), message(other, 1), message(one, 2))
	accept(message(uuid.New(), 0), message(uuid.New(), 0))
	close(hold)
	calls.Wait()
	b.inOrder(one, 3)
	b.inOrder(other, 2)
	if len(batches) < 3 || len(batches[0]) != 1 || len(batches[1]) != 1 || batches[1][0] != other {
		t.Errorf("accepted together: %v", batches)
	}
}

// Without a worker in this process all is stored for those of others.
func TestAnIntakeWithoutAWorkerStores(t *testing.T) {
	b := setup(t)
	in := NewIntake(b.inbox(), nil)
	account := uuid.New()
	first := message(account, 0)
	if seqs := b.accept(in, first, message(account, 1)); seqs[0] == 0 || seqs[1] <= seqs[0] {
		t.Errorf("arrivals %v", seqs)
	}
	if again := b.accept(in, first); again[0] != 0 {
		t.Errorf("a message that waits was accepted again: %v", again)
	}
	b.count(2, `SELECT count(*) FROM inbox`)
	m, found, err := b.inbox().Find(t.Context(), first.ID)
	if err != nil || !found || m.Body != first.Body || m.Seq == 0 {
		t.Errorf("found %+v, %t, %v", m, found, err)
	}
	b.drain(b.worker())
	b.inOrder(account, 2)
	if _, found, err := b.inbox().Find(t.Context(), first.ID); err != nil || found {
		t.Errorf("what has taken effect is found: %t, %v", found, err)
	}
}

// The bodies of what takes effect at once are neither encoded nor decoded.
func TestOnlyStoredBodiesAreEncoded(t *testing.T) {
	b := setup(t)
	codec := &countingCodec{Codec: text{}}
	box := New(b.Service, codec)
	w := NewWorker(box, b.handle, quick, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	in := NewIntake(box, w)
	account := uuid.New()
	b.accept(in, message(account, 0))
	if n := codec.calls.Load(); n != 0 {
		t.Errorf("the codec was called %d times for a message that took effect at once", n)
	}
	if _, err := box.Store(t.Context(), []Stored{message(account, 1)}); err != nil {
		t.Fatal(err)
	}
	b.accept(in, message(account, 2))
	b.drain(w)
	b.inOrder(account, 3)
	if n := codec.calls.Load(); n != 4 {
		t.Errorf("the codec was called %d times for two stored messages", n)
	}
}

// countingCodec counts what it encodes and decodes.
type countingCodec struct {
	Codec[string]
	calls atomic.Int64
}

func (c *countingCodec) Encode(m Stored) (string, error) {
	c.calls.Add(1)
	return c.Codec.Encode(m)
}

func (c *countingCodec) Decode(m Stored) (string, error) {
	c.calls.Add(1)
	return c.Codec.Decode(m)
}
