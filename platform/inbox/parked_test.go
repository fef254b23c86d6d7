package inbox

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/parked"
	"github.com/altyn-pay/altyn/testkit/wait"
)

// operators is the source over the bundle's inbox, where messages of the kind "vital" must take effect.
func (b *bundle) operators() *Parked {
	return NewParked(b.Service, func(kind string) bool { return kind != "vital" }, func() {})
}

// list reads what is parked in pages of a size.
func (b *bundle) list(size int) (items []parked.Item) {
	b.Helper()
	for after := (parked.Position{}); ; {
		page, err := b.operators().Parked(b.Context(), after, size)
		if err != nil {
			b.Fatal(err)
		}
		items = append(items, page...)
		if len(page) < size {
			return items
		}
		after = page[size-1].Position()
	}
}

// park stores three messages of an account, of which the second fails until it is mended, and waits until it is parked.
func (b *bundle) park(kind string) (account uuid.UUID, bad Stored) {
	b.Helper()
	account = uuid.New()
	messages := make([]Stored, 3)
	for i := range messages {
		messages[i] = Stored{ID: uuid.New(), Lane: contract.Lane(account), AccountID: account, Kind: kind,
			Body:        string(rune('0' + i)),
			Fingerprint: uuid.NullUUID{UUID: uuid.New(), Valid: true}, Traceparent: "trace"}
	}
	bad = messages[1]
	b.poison.Store(bad.ID, errors.New("cannot"))
	bad.Seq = b.insert(messages)[1]
	b.parked(bad)
	return account, bad
}

func (b *bundle) parked(m Stored) {
	b.Helper()
	b.until(1, `SELECT count(*) FROM inbox_stops WHERE message_id = $1 AND retry_at IS NULL AND NOT probing`, m.ID)
}

func TestWhatIsParkedIsListedAndRedriven(t *testing.T) {
	b := setup(t)
	b.run()
	account, bad := b.park("test")
	_, other := b.park("test")
	// Those that are tried again by themselves are not listed.
	if _, err := b.Owner.Exec(`
		WITH m AS (INSERT INTO inbox (id, lane, account_id, kind, payload, stopped)
			SELECT gen_random_uuid(), 1, gen_random_uuid(), 'test', '0', true FROM generate_series(1, 2) RETURNING *)
		INSERT INTO inbox_stops (account_id, lane, message_id, attempts, reason, retry_at, probing)
		SELECT account_id, lane, id, 3, 'cannot', CASE n WHEN 1 THEN 'infinity'::timestamptz END, n = 2
		FROM (SELECT *, row_number() OVER () AS n FROM m) m`); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1, 2, 200} {
		items := b.list(size)
		if len(items) != 2 || items[0].ID != bad.ID || items[1].ID != other.ID {
			t.Fatalf("in pages of %d: %+v", size, items)
		}
		first := items[0]
		if first.Source != "inbox" || first.Kind != "test" || first.AccountID != account || first.Attempts != 3 ||
			first.Reason != "cannot" ||
			string(first.Payload) != "1" || time.Since(time.Time(first.ParkedAt)) > time.Minute {
			t.Errorf("item %+v", first)
		}
	}

	// What is not mended is parked again, after as many attempts.
	if _, err := b.operators().Redrive(t.Context(), bad.ID, unrecorded); err != nil {
		t.Fatal(err)
	}
	b.until(1, `SELECT count(*) FROM inbox_stops WHERE message_id = $1 AND retry_at IS NULL AND NOT probing
		AND attempts = 3`, bad.ID)
	b.poison.Delete(bad.ID)
	item, err := b.operators().Redrive(t.Context(), bad.ID, unrecorded)
	if err != nil || item.ID != bad.ID || item.Attempts != 3 || item.Source != "inbox" {
		t.Errorf("redriven %+v, %v", item, err)
	}
	b.until(3, `SELECT count(*) FROM effects WHERE account_id = $1`, account)
	b.inOrder(account, 3)
	if items := b.list(10); len(items) != 1 || items[0].ID != other.ID {
		t.Errorf("still parked: %+v", items)
	}
	for _, id := range []uuid.UUID{bad.ID, uuid.New()} {
		if _, err := b.operators().Redrive(t.Context(), id, unrecorded); !errors.Is(err, parked.ErrNotFound) {
			t.Errorf("what is not parked: %v", err)
		}
		if _, err := b.operators().Discard(t.Context(), id, "why", unrecorded); !errors.Is(err, parked.ErrNotFound) {
			t.Errorf("what is not parked: %v", err)
		}
	}
}

func TestADiscardedMessageIsSettledAsThatInItsPlace(t *testing.T) {
	b := setup(t)
	b.run()
	account, bad := b.park("test")
	stored := func() (m Stored) {
		t.Helper()
		if err := b.Owner.Get(&m, `SELECT seq, id, lane, account_id, kind, payload, fingerprint, traceparent, received_at
			FROM inbox WHERE id = $1`, bad.ID); err != nil {
			t.Fatal(err)
		}
		return m
	}
	bad.ReceivedAt = stored().ReceivedAt

	// It fails as a discarded one too, is parked again, and is discarded again: it is wrapped once, with the last reason.
	for _, reason := range []string{"no use", "no use at all"} {
		item, err := b.operators().Discard(t.Context(), bad.ID, reason, unrecorded)
		if err != nil || item.ID != bad.ID {
			t.Fatalf("discarded %+v, %v", item, err)
		}
		b.parked(bad)
		var wrapped discarded
		m := stored()
		if err := json.Unmarshal([]byte(m.Body), &wrapped); err != nil || m.Kind != discardedKind ||
			wrapped.Kind != "test" || string(wrapped.Payload) != "1" || wrapped.Reason != reason {
			t.Errorf("stored %+v: %v", m, err)
		}
		m.Kind, m.Body = bad.Kind, bad.Body
		if m != bad {
			t.Errorf("became %+v, was %+v", m, bad)
		}
		if items := b.list(10); len(items) != 1 || items[0].Kind != discardedKind || items[0].Attempts != 3 {
			t.Errorf("parked again: %+v", items)
		}
	}
	b.poison.Delete(bad.ID)
	if _, err := b.operators().Redrive(t.Context(), bad.ID, unrecorded); err != nil {
		t.Fatal(err)
	}
	b.until(3, `SELECT count(*) FROM effects WHERE account_id = $1`, account)
	b.until(1, `
		SELECT count(*) FROM (SELECT payload, lag(payload) OVER (ORDER BY n) AS before FROM effects WHERE account_id = $1) e
		WHERE payload = 'discarded test 1' AND before = '0'`, account)
	b.until(0, `SELECT (SELECT count(*) FROM inbox) + (SELECT count(*) FROM inbox_stops)`)
}

func TestWhatCannotBeReadIsDiscarded(t *testing.T) {
	b := setup(t)
	b.run()
	account := uuid.New()
	m := Stored{ID: uuid.New(), Lane: contract.Lane(account), AccountID: account, Kind: "test", Body: `{"a"`}
	b.poison.Store(m.ID, errors.New("cannot"))
	b.insert([]Stored{m})
	b.parked(m)
	if _, err := b.operators().Discard(t.Context(), m.ID, "broken", unrecorded); err != nil {
		t.Fatal(err)
	}
	b.parked(m)
	b.until(1, `SELECT count(*) FROM inbox WHERE payload = '{"kind":"test","payload":"{\"a\"","reason":"broken"}'`)
}

func TestWhatMustTakeEffectIsNotDiscarded(t *testing.T) {
	b := setup(t)
	b.run()
	_, bad := b.park("vital")
	if _, err := b.operators().Discard(t.Context(), bad.ID, "why", unrecorded); !errors.Is(err, parked.ErrNotDiscardable) {
		t.Errorf("discarded: %v", err)
	}
	if items := b.list(10); len(items) != 1 || items[0].Kind != "vital" {
		t.Errorf("parked %+v", items)
	}
	b.until(1, `SELECT count(*) FROM inbox WHERE id = $1 AND kind = 'vital' AND payload = '1' AND stopped`, bad.ID)
}

// Several operators at once, and workers that fail: each message takes effect once and in order.
func TestRedrivesDuringSettlement(t *testing.T) {
	b := setup(t)
	for range 3 {
		b.run()
	}
	account, bad := b.park("test")
	var released atomic.Int32
	ended := make(chan struct{})
	var operators sync.WaitGroup
	for range 4 {
		operators.Go(func() {
			for {
				select {
				case <-ended:
					return
				default:
				}
				switch _, err := b.operators().Redrive(t.Context(), bad.ID, unrecorded); {
				case err == nil:
					released.Add(1)
				case !errors.Is(err, parked.ErrNotFound):
					t.Error(err)
				}
			}
		})
	}
	// It is parked and let go, again and again.
	wait.Until(t, "it is redriven three times", func() bool { return released.Load() >= 3 })
	b.poison.Delete(bad.ID)
	b.until(3, `SELECT count(*) FROM effects WHERE account_id = $1`, account)
	close(ended)
	operators.Wait()
	b.inOrder(account, 3)
	b.until(0, `SELECT (SELECT count(*) FROM inbox) + (SELECT count(*) FROM inbox_stops)`)
}

// A message that failed here and took effect in another process meanwhile stops nobody.
func TestWhatAnotherWorkerHasSettledIsNotStopped(t *testing.T) {
	b := setup(t)
	w := NewWorker(b.inbox(), b.handle, quick, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	account := uuid.New()
	m := b.send(1, account)[0]
	if n, err := w.runOnce(t.Context()); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if err := w.stop(t.Context(), m, errors.New("cannot")); err != nil {
		t.Fatal(err)
	}
	b.until(0, `SELECT count(*) FROM inbox_stops`)
}

// Two workers may claim a message one after the other before the first one has stopped its account: that is one
// attempt, and the account waits no longer than it should.
func TestAFailureThatTwoWorkersHaveSeenIsOneAttempt(t *testing.T) {
	b := setup(t)
	w := NewWorker(b.inbox(), b.handle, quick, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	m := b.send(1, uuid.New())[0]
	for attempt := 1; attempt <= quick.Attempts; attempt++ {
		for range 2 {
			if err := w.stop(t.Context(), m, errors.New("cannot")); err != nil {
				t.Fatal(err)
			}
		}
		b.until(attempt, `SELECT attempts FROM inbox_stops WHERE message_id = $1`, m.ID)
		if attempt < quick.Attempts {
			wait.NoError(t, func() error {
				n, err := w.probe(t.Context())
				if err == nil && n == 0 {
					err = errors.New("the account is not due")
				}
				return err
			})
		}
	}
	b.parked(m)
}

// A stop whose message was deleted by hand ends by itself.
func TestAStopWithoutItsMessageEnds(t *testing.T) {
	b := setup(t)
	account := uuid.New()
	messages := b.send(3, account)
	b.poison.Store(messages[1].ID, errors.New("cannot"))
	b.run()
	b.parked(messages[1])
	if _, err := b.Owner.Exec(`DELETE FROM inbox WHERE id = $1`, messages[1].ID); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Owner.Exec(`UPDATE inbox_stops SET retry_at = now()`); err != nil {
		t.Fatal(err)
	}
	b.until(2, `SELECT count(*) FROM effects WHERE account_id = $1`, account)
	b.until(0, `SELECT (SELECT count(*) FROM inbox) + (SELECT count(*) FROM inbox_stops)`)
}

func TestALargePayloadIsLeftOut(t *testing.T) {
	b := setup(t)
	b.run()
	account := uuid.New()
	m := Stored{ID: uuid.New(), Lane: contract.Lane(account), AccountID: account, Kind: "test",
		Body: strings.Repeat("1", parked.MaxPayload+1)}
	b.poison.Store(m.ID, errors.New(strings.Repeat("я", 2*parked.MaxReason)))
	b.insert([]Stored{m})
	b.parked(m)
	if items := b.list(10); len(items) != 1 || items[0].Payload != nil ||
		items[0].Reason != strings.Repeat("я", parked.MaxReason) {
		t.Errorf("item %+v", items)
	}
}

func TestRetryPauses(t *testing.T) {
	sum := time.Duration(0)
	for attempts := 1; attempts < DefaultRetry.Attempts; attempts++ {
		pause, park := DefaultRetry.after(attempts)
		if want := 100 * time.Millisecond << (attempts - 1); pause != want || park {
			t.Errorf("after %d attempts: %s, %t", attempts, pause, park)
		}
		sum += pause
	}
	if _, park := DefaultRetry.after(DefaultRetry.Attempts); !park || sum != 12700*time.Millisecond {
		t.Errorf("parked %t after %s", park, sum)
	}
	long := Retry{Attempts: 1 << 40, First: time.Second, Longest: time.Minute}
	if pause, _ := long.after(1 << 39); pause != time.Minute {
		t.Errorf("after many attempts: %s", pause)
	}
}

// unrecorded is the parked.Record of tests that look at what is done alone.
func unrecorded(context.Context, *sqlx.Tx, parked.Item) error { return nil }

// What cannot be recorded is not done.
func TestWhatIsDoneIsRecordedWithIt(t *testing.T) {
	b := setup(t)
	b.run()
	_, bad := b.park("payment")
	no := errors.New("the record is full")
	for _, act := range []func(parked.Record) (parked.Item, error){
		func(record parked.Record) (parked.Item, error) {
			return b.operators().Redrive(t.Context(), bad.ID, record)
		},
		func(record parked.Record) (parked.Item, error) {
			return b.operators().Discard(t.Context(), bad.ID, "why", record)
		},
	} {
		var shown parked.Item
		if _, err := act(func(_ context.Context, _ *sqlx.Tx, item parked.Item) error {
			shown = item
			return no
		}); !errors.Is(err, no) {
			t.Errorf("it ended with %v", err)
		}
		if items := b.list(10); len(items) != 1 || items[0].ID != bad.ID || items[0].Attempts != shown.Attempts ||
			shown.ID != bad.ID || items[0].Kind != "payment" {
			t.Errorf("shown %+v, parked %+v", shown, items)
		}
	}
}
