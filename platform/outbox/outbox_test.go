package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/stage"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
	"github.com/altyn-pay/altyn/testkit/wait"
)

func TestMain(m *testing.M) { postgrestest.CitusMain(m) }

var (
	errRefused = errors.New("refused for good")
	errAway    = errors.New("the broker is away")
	errSkipped = errors.New("skipped")
)

// broker is a Publisher that keeps what it was given and fails as the test says.
type broker struct {
	mu        sync.Mutex
	published []Message
	tried     []Message           // with those that failed
	fail      func(Message) error // by message; nil for success
}

func (b *broker) Publish(_ context.Context, messages []Message) []error {
	b.mu.Lock()
	defer b.mu.Unlock()
	results := make([]error, len(messages))
	failed := map[string]bool{}
	var parts []part
	for i, m := range messages {
		if failed[m.Key] || slices.ContainsFunc(parts, func(p part) bool { return p.has(m) }) {
			results[i] = errSkipped
			continue
		}
		b.tried = append(b.tried, m)
		var err error
		if b.fail != nil {
			err = b.fail(m)
		}
		var away *Unavailable
		switch {
		case errors.As(err, &away):
			results[i], parts = err, append(parts, part{m.Topic, away.Partitions, away.Partition})
		case err != nil:
			results[i], failed[m.Key] = err, true
		default:
			b.published = append(b.published, m)
		}
	}
	return results
}

func (b *broker) Retry(ctx context.Context, messages []Message) []error {
	return b.Publish(ctx, messages)
}

func (b *broker) Permanent(err error) bool { return errors.Is(err, errRefused) }

// payloads are those of a key, in the order of their publication.
func (b *broker) payloads(key string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var payloads []string
	for _, m := range b.published {
		if m.Key == key {
			payloads = append(payloads, m.Payload)
		}
	}
	return payloads
}

type bundle struct {
	*testing.T
	postgrestest.DB
	broker *broker
}

func setup(t *testing.T) *bundle {
	t.Parallel()
	return &bundle{T: t, DB: postgrestest.Database(t, "outbox", Migrations()), broker: &broker{}}
}

// run starts a relay and returns what ends it.
func (b *bundle) run() (relay *Relay, stop func()) {
	relay = NewRelay(b.Service, b.broker, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- relay.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	b.Cleanup(stop)
	return relay, stop
}

func (b *bundle) append(key string, payloads ...string) {
	b.Helper()
	b.appendAll(messagesOf(key, payloads...)...)
}

func messagesOf(key string, payloads ...string) (messages []Message) {
	for _, p := range payloads {
		messages = append(messages, Message{ID: uuid.New(), Type: "test", Topic: "topic", Key: key, Subject: "subject",
			Payload: p, Traceparent: "trace"})
	}
	return messages
}

func (b *bundle) appendAll(messages ...Message) {
	b.Helper()
	if err := pg.InTx(b.Context(), b.Service, func(tx *sqlx.Tx) error {
		return Append(b.Context(), tx, messages...)
	}); err != nil {
		b.Fatal(err)
	}
}

// failing makes the broker fail for some messages until the function it returns is called.
func (b *bundle) failing(err error, which func(Message) bool) (mend func()) {
	fails := true
	b.broker.fail = func(m Message) error {
		if fails && which(m) {
			return err
		}
		return nil
	}
	return func() {
		b.broker.mu.Lock()
		defer b.broker.mu.Unlock()
		fails = false
	}
}

// away makes the broker take no message of a key for now.
func (b *bundle) away(key string) (back func()) {
	return b.failing(errAway, func(m Message) bool { return m.Key == key })
}

// until waits for a condition.
func (b *bundle) until(what string, holds func() bool) {
	b.Helper()
	wait.Until(b, what, holds)
}

// stored is how many messages the outbox has.
func (b *bundle) stored() (n int) {
	b.Helper()
	if err := b.Owner.GetContext(b.Context(), &n, `SELECT coalesce(sum(count), 0) FROM outbox`); err != nil {
		b.Fatal(err)
	}
	return n
}

func (b *bundle) rows(table string) (n int) {
	b.Helper()
	if err := b.Owner.GetContext(b.Context(), &n, `SELECT count(*) FROM `+table); err != nil {
		b.Fatal(err)
	}
	return n
}

// After a batch the next messages gather for as long as it took, whenever they come.
func TestTheRelayRestsAfterABatch(t *testing.T) {
	b := setup(t)
	const many = 100
	var begin, end, next time.Time
	running := make(chan *Relay, 1)
	b.broker.fail = func(m Message) error { // under the broker's lock
		switch m.Payload {
		case "0":
			begin = time.Now()
		case fmt.Sprint(many - 1):
			b.append("b", "next")
			// Long enough to be told from the time that the relay needs to look again.
			b.until("it has taken a while", func() bool { return time.Since(begin) >= 20*time.Millisecond })
			(<-running).Wake() // otherwise it would come no sooner than at the next look
			end = time.Now()
		case "next":
			next = time.Now()
		}
		return nil
	}
	var payloads []string
	for i := range many {
		payloads = append(payloads, fmt.Sprint(i))
	}
	b.append("a", payloads...)
	relay, _ := b.run()
	running <- relay
	b.until("all is published", func() bool { return len(b.broker.payloads("b")) == 1 && b.rows("outbox") == 0 })
	if rested, want := next.Sub(end), stage.Rest(many, end.Sub(begin)); rested < want {
		t.Errorf("the relay rested %s, want at least %s", rested, want)
	}
}

func TestWhatCommitsIsPublishedInOrderAndDeleted(t *testing.T) {
	b := setup(t)
	tx, err := b.Service.BeginTxx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := Append(t.Context(), tx, Message{ID: uuid.New(), Type: "test", Topic: "topic", Key: "a",
		Payload: "rolled back"}); err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range 3 * batchSize {
		want = append(want, fmt.Sprint(i))
	}
	b.append("a", want...)
	b.run()
	b.until("the outbox is empty", func() bool { return b.rows("outbox") == 0 })
	if got := b.broker.payloads("a"); !slices.Equal(got, want) {
		t.Errorf("published %d messages, in order: %v", len(got), slices.IsSorted(got))
	}
	if m := b.broker.published[0]; m.Type != "test" || m.Topic != "topic" || m.Subject != "subject" ||
		m.Traceparent != "trace" || m.CreatedAt.IsZero() {
		t.Errorf("published %+v", m)
	}
}

// A sequence number is not the order of commits: what commits late with a low number is published all the same.
func TestALateCommitIsNotOvertaken(t *testing.T) {
	b := setup(t)
	late, err := b.Service.BeginTxx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer late.Rollback()
	if err := Append(t.Context(), late, Message{ID: uuid.New(), Type: "test", Topic: "topic", Key: "late",
		Payload: "1"}); err != nil {
		t.Fatal(err)
	}
	b.run()
	b.append("early", "1")
	b.until("the early one is published", func() bool { return len(b.broker.payloads("early")) == 1 })
	if err := late.Commit(); err != nil {
		t.Fatal(err)
	}
	b.until("the late one is published", func() bool { return len(b.broker.payloads("late")) == 1 })
}

func TestABrokerThatIsAwayLosesNothing(t *testing.T) {
	b := setup(t)
	back := b.away("a")
	b.append("a", "1", "2")
	b.append("b", "1")
	b.run()
	b.until("the other key is published", func() bool { return len(b.broker.payloads("b")) == 1 })
	b.until("what was acknowledged is deleted", func() bool { return b.stored() == 2 })
	back()
	b.until("the outbox is empty", func() bool { return b.rows("outbox") == 0 })
	if got := b.broker.payloads("a"); !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("published %v", got)
	}
}

func TestARefusedMessageIsParkedWithTheLaterOnesOfItsKey(t *testing.T) {
	b := setup(t)
	b.broker.fail = func(m Message) error {
		if m.Payload == "bad" {
			return errRefused
		}
		return nil
	}
	b.append("a", "1", "bad", "2")
	b.append("b", "1")
	relay, _ := b.run()
	b.until("the outbox is empty", func() bool { return b.rows("outbox") == 0 })
	b.append("a", "3")
	b.append("b", "2")
	relay.Wake()
	b.until("the outbox is empty", func() bool { return b.rows("outbox") == 0 })
	if a, other := b.broker.payloads("a"), b.broker.payloads("b"); !slices.Equal(a, []string{"1"}) ||
		!slices.Equal(other, []string{"1", "2"}) {
		t.Errorf("published %v and %v", a, other)
	}
	var parked []string
	if err := b.Owner.Select(&parked, `SELECT payload || ': ' || reason FROM outbox_parked ORDER BY seq`); err != nil {
		t.Fatal(err)
	}
	want := []string{"bad: refused for good", "2: behind a parked message of its key",
		"3: behind a parked message of its key"}
	if !slices.Equal(parked, want) {
		t.Errorf("parked %q", parked)
	}
}

// Of several relays one works; when its session is lost, another takes over.
func TestOneRelayLeads(t *testing.T) {
	b := setup(t)
	leaders := func() (pids []int) {
		if err := b.Owner.Select(&pids, `SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = $1 AND database =
			(SELECT oid FROM pg_database WHERE datname = current_database())`, lockClass); err != nil {
			b.Fatal(err)
		}
		return pids
	}
	for range 3 {
		b.run()
	}
	b.until("one leads", func() bool { return len(leaders()) == 1 })
	first := leaders()[0]
	b.append("a", "1")
	b.until("it publishes", func() bool { return b.rows("outbox") == 0 })
	if _, err := b.Owner.Exec(`SELECT pg_terminate_backend($1::integer)`, first); err != nil {
		// The owner may not end the service's sessions: the service's own role may.
		if _, err := b.Service.Exec(`SELECT pg_terminate_backend($1::integer)`, first); err != nil {
			t.Fatal(err)
		}
	}
	b.until("another leads", func() bool { now := leaders(); return len(now) == 1 && now[0] != first })
	b.append("a", "2")
	b.until("it publishes", func() bool { return b.rows("outbox") == 0 })
	if got := b.broker.payloads("a"); !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("published %v", got)
	}
}

// lead makes a relay that does what the test says, step by step.
func (b *bundle) lead() *leader {
	b.Helper()
	conn, err := b.Service.Connx(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	l, err := newLeader(b.Context(), NewRelay(b.Service, b.broker, slog.New(slog.DiscardHandler),
		prometheus.NewRegistry()), conn)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(l.attempts.Wait)
	return l
}

func (l *leader) step(b *bundle, woken bool) {
	b.Helper()
	if _, refused, err := l.runOnce(b.Context(), woken); refused != nil || err != nil {
		b.Fatal(refused, err)
	}
}

// What comes by ones and twos is deleted together, at the relay's next look by itself, and published once all the same.
func TestFewPublishedRowsAreDeletedTogether(t *testing.T) {
	b := setup(t)
	relay := b.lead()
	var want []string
	for i := range deleteAtOnce - 1 {
		want = append(want, fmt.Sprint(i))
		b.append("a", want[i])
		relay.step(b, true)
	}
	if got := b.broker.payloads("a"); !slices.Equal(got, want) {
		t.Errorf("published %v", got)
	}
	if n := b.rows("outbox"); n != len(want) {
		t.Errorf("%d rows wait to be deleted, want %d", n, len(want))
	}
	b.append("a", "the next")
	relay.step(b, true)
	if n := b.rows("outbox"); n != 0 {
		t.Errorf("of %d published rows %d are there", deleteAtOnce, n)
	}
	b.append("a", "the last")
	relay.step(b, true)
	relay.step(b, false)
	if got := b.broker.payloads("a"); !slices.Equal(got, append(want, "the next", "the last")) || b.rows("outbox") != 0 {
		t.Errorf("published %v", got)
	}
}

func TestARelayThatStopsDeletesWhatItHasPublished(t *testing.T) {
	b := setup(t)
	relay, stop := b.run()
	for i := range 5 {
		b.append("a", fmt.Sprint(i))
		relay.Wake()
		b.until("it is published", func() bool { return len(b.broker.payloads("a")) == i+1 })
	}
	stop()
	if n := b.rows("outbox"); n != 0 {
		t.Errorf("%d published rows are still there", n)
	}
}

// A relay that is lost with its session, or killed, before it has deleted what it has published: the next one
// publishes it again, in its order, and nothing is missing.
func TestWhatALostRelayHasPublishedIsPublishedAgain(t *testing.T) {
	b := setup(t)
	lost := b.lead()
	b.append("a", "1", "2")
	lost.step(b, true)
	discard(lost.conn)
	b.append("a", "3")
	b.run()
	b.until("the outbox is empty", func() bool { return b.rows("outbox") == 0 })
	if got := b.broker.payloads("a"); !slices.Equal(got, []string{"1", "2", "1", "2", "3"}) {
		t.Errorf("published %v", got)
	}
	if _, _, err := lost.runOnce(t.Context(), true); err == nil {
		t.Error("a relay without its session goes on")
	}
}
