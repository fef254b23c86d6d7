package inbox

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
)

// older is the codec of a version that does not know messages of the kind "new".
type older struct{ text }

func (older) Decode(m Stored) (string, error) {
	if m.Kind == "new" {
		return "", fmt.Errorf("%w: kind %q", ErrUnknown, m.Kind)
	}
	return text{}.Decode(m)
}

// runOlder starts a worker of that version and returns its intake.
func (b *bundle) runOlder() *Intake[string] {
	x := New[string](b.Service, older{})
	w := NewWorker(x, b.handle, quick, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	b.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	return NewIntake(x, w)
}

// What a version does not know keeps its place, and with it what follows in the account's queue, whichever way it came
// in. It is no operator's work, and costs the others nothing. A version that knows it takes it up, also beside the one
// that does not.
func TestWhatAVersionDoesNotKnowWaitsForOneThatDoes(t *testing.T) {
	b := setup(t)
	in := b.runOlder()
	stored, direct, others := uuid.New(), uuid.New(), accounts(30)
	fresh := func(account uuid.UUID, n int) Stored {
		m := message(account, n)
		m.Kind = "new"
		return m
	}
	// As this version has got it from the broker, while nothing is ahead.
	kept := fresh(direct, 1)
	kept.Body, kept.Unknown = "", kept.Body
	b.accept(in, message(direct, 0), kept, message(direct, 2))
	// As a newer version has stored it, in a batch with messages of others.
	b.insert([]Stored{message(stored, 0), fresh(stored, 1), message(stored, 2)})
	for _, account := range others {
		b.insert([]Stored{message(account, 0)})
	}
	b.until(2, `SELECT count(*) FROM inbox_stops WHERE retry_at = 'infinity'`)
	b.accept(in, message(direct, 3))
	b.accept(in, message(stored, 3))
	b.until(2+len(others), `SELECT count(*) FROM effects`)
	b.until(6, `SELECT count(*) FROM inbox WHERE stopped`)
	b.until(0, `SELECT count(*) FROM inbox WHERE NOT stopped`)
	if items := b.list(10); len(items) > 0 {
		t.Errorf("parked are %+v", items)
	}
	stop, _, err := b.inbox().Standing(t.Context(), stored, message(stored, 0).Lane)
	if err != nil || stop == nil || stop.Parked() || stop.Attempts != 0 || stop.RetryAt.Valid {
		t.Errorf("the queue stands still for %+v, %v", stop, err)
	}

	b.run()
	b.until(8+len(others), `SELECT count(*) FROM effects`)
	b.inOrder(stored, 4)
	b.inOrder(direct, 4)
	b.until(0, `SELECT (SELECT count(*) FROM inbox) + (SELECT count(*) FROM inbox_stops)`)
}

// However many they are, each is taken up: a worker looks at one page of them after another.
func TestWhatIsNotKnownIsLookedAtPageByPage(t *testing.T) {
	b := setup(t)
	n := maxProbes + 1
	strangers, last := accounts(n), uuid.Max
	for _, account := range strangers {
		m := message(account, 0)
		m.Kind = "new"
		b.insert([]Stored{m})
	}
	m := message(last, 0)
	m.Kind = "new"
	b.insert([]Stored{m})
	w := NewWorker(New[string](b.Service, older{}), b.handle, quick, slog.New(slog.DiscardHandler),
		prometheus.NewRegistry())
	for more := 1; more > 0; { // a batch is of one shard
		var err error
		if more, err = w.runOnce(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	b.until(n+1, `SELECT count(*) FROM inbox_stops WHERE retry_at = 'infinity'`)
	var after uuid.UUID
	if _, err := w.takeUp(t.Context(), &after); err != nil || after == uuid.Nil {
		t.Fatalf("the next page is after %s, %v", after, err)
	}
	// Now it is known.
	if _, err := b.Owner.Exec(`UPDATE inbox SET kind = 'test' WHERE account_id = $1`, last); err != nil {
		t.Fatal(err)
	}
	if n, err := w.takeUp(t.Context(), &after); err != nil || n != 1 || after != uuid.Nil {
		t.Errorf("%d are taken up, the next page is after %s, %v", n, after, err)
	}
	b.until(n, `SELECT count(*) FROM inbox_stops WHERE retry_at = 'infinity'`)
}
