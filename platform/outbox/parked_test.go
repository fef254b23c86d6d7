package outbox

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/platform/parked"
)

// refuse makes the broker refuse one payload for good until the function it returns is called.
func (b *bundle) refuse(payload string) (accept func()) {
	return b.failing(errRefused, func(m Message) bool { return m.Payload == payload })
}

// list is all that is parked, read in pages of one.
func (b *bundle) list() (items []parked.Item) {
	b.Helper()
	for after := (parked.Position{}); ; {
		page, err := NewParked(b.Service, func() {}).Parked(b.Context(), after, 1)
		if err != nil {
			b.Fatal(err)
		}
		if len(page) == 0 {
			return items
		}
		items = append(items, page...)
		after = page[0].Position()
	}
}

func (b *bundle) seqs(table string) (seqs []int64) {
	b.Helper()
	if err := b.Owner.Select(&seqs, `SELECT seq FROM `+table+` ORDER BY seq`); err != nil {
		b.Fatal(err)
	}
	return seqs
}

func TestWhatIsParkedIsRedrivenInOrder(t *testing.T) {
	b := setup(t)
	accept := b.refuse("bad")
	account := uuid.New()
	key := account.String()
	relay, stop := b.run()
	b.append(key, "1", "bad", "2")
	b.append("other", "1")
	b.until("the key is parked", func() bool { return b.rows("outbox_parked") == 2 && b.rows("outbox") == 0 })

	items := b.list()
	if len(items) != 1 {
		t.Fatalf("listed %+v", items)
	}
	item := items[0]
	if item.Source != "outbox" || item.Kind != "test" || item.AccountID != account || item.Reason != errRefused.Error() ||
		item.Attempts != 1 ||
		string(item.Payload) != `"bad"` || time.Since(time.Time(item.ParkedAt)) > time.Minute {
		t.Errorf("item %+v", item)
	}
	operators := NewParked(b.Service, relay.Wake)
	// What is refused again is parked again, and the rest behind it.
	before := b.seqs("outbox_parked")
	if got, err := operators.Redrive(t.Context(), item.ID, unrecorded); err != nil || got.ID != item.ID {
		t.Fatalf("redriven %+v: %v", got, err)
	}
	b.until("it is parked again", func() bool {
		again := b.list()
		return len(again) == 1 && time.Time(again[0].ParkedAt).After(time.Time(item.ParkedAt))
	})
	b.append(key, "3")
	b.until("all is parked", func() bool { return b.rows("outbox_parked") == 3 && b.rows("outbox") == 0 })
	if after := b.seqs("outbox_parked"); !slices.Equal(after[:2], before) {
		t.Errorf("the numbers were %v, are %v", before, after)
	}
	accept()
	stop() // what is put back waits for a relay, with what came meanwhile
	if _, err := operators.Redrive(t.Context(), item.ID, unrecorded); err != nil {
		t.Fatal(err)
	}
	b.append(key, "4")
	b.run()
	b.until("everything is published", func() bool { return b.rows("outbox") == 0 })
	if got := b.broker.payloads(key); !slices.Equal(got, []string{"1", "bad", "2", "3", "4"}) {
		t.Errorf("published %q", got)
	}
	if left := b.rows("outbox_parked"); left != 0 {
		t.Errorf("%d are parked still", left)
	}
	for _, id := range []uuid.UUID{item.ID, uuid.New()} {
		if _, err := operators.Redrive(t.Context(), id, unrecorded); !errors.Is(err, parked.ErrNotFound) {
			t.Errorf("what is not parked: %v", err)
		}
	}
}

func TestADiscardedMessageIsNeverPublished(t *testing.T) {
	b := setup(t)
	b.refuse("bad")
	relay, _ := b.run()
	b.append("a", "1", "bad", "2", "3")
	b.until("the key is parked", func() bool { return b.rows("outbox_parked") == 3 })
	operators := NewParked(b.Service, relay.Wake)
	item := b.list()[0]
	// One that only waits behind it is not an operator's matter.
	var waiting uuid.UUID
	if err := b.Owner.Get(&waiting, `SELECT id FROM outbox_parked WHERE payload = '3'`); err != nil {
		t.Fatal(err)
	}
	if _, err := operators.Discard(t.Context(), waiting, "why", unrecorded); !errors.Is(err, parked.ErrNotFound) {
		t.Errorf("what waits behind another: %v", err)
	}
	if got, err := operators.Discard(t.Context(), item.ID, "why", unrecorded); err != nil || got.ID != item.ID ||
		got.AccountID != uuid.Nil {
		t.Errorf("discarded %+v: %v", got, err)
	}
	b.append("a", "4")
	b.until("everything is published", func() bool { return b.rows("outbox") == 0 })
	if got := b.broker.payloads("a"); !slices.Equal(got, []string{"1", "2", "3", "4"}) || len(b.list()) != 0 {
		t.Errorf("published %q, parked %+v", got, b.list())
	}
}

// The relay sees a message behind a parked one, and before it parks it too, an operator puts that one back: the message
// must not be parked alone, before what it was behind is published.
func TestARedriveOvertakesTheRelay(t *testing.T) {
	b := setup(t)
	accept := b.refuse("bad")
	_, stop := b.run()
	b.append("a", "bad", "1")
	b.until("the key is parked", func() bool { return b.rows("outbox_parked") == 2 })
	stop()
	accept()

	b.append("a", "2")
	b.append("b", "1")
	reached, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	b.broker.fail = func(m Message) error {
		once.Do(func() {
			close(reached)
			<-goOn
		})
		return nil
	}
	relay, _ := b.run()
	<-reached // it has read both, and publishes b's
	if _, err := NewParked(b.Service, relay.Wake).Redrive(t.Context(), b.list()[0].ID, unrecorded); err != nil {
		t.Fatal(err)
	}
	close(goOn)
	b.until("everything is published", func() bool { return b.rows("outbox") == 0 })
	if got := b.broker.payloads("a"); !slices.Equal(got, []string{"bad", "1", "2"}) || b.rows("outbox_parked") != 0 {
		t.Errorf("published %q, %d are parked", got, b.rows("outbox_parked"))
	}
}

// However many messages are parked behind one, all of them are put back in their order.
func TestALongQueueIsPutBack(t *testing.T) {
	b := setup(t)
	const n = 2*batchSize + 1
	if _, err := b.Owner.Exec(`
		INSERT INTO outbox_parked (seq, lane, id, type, topic, key, subject, payload, traceparent, created_at, reason)
		SELECT i, 1, gen_random_uuid(), 'test', 'topic', 'a', 'ключ', i::text, 'trace', clock_timestamp(),
			CASE i WHEN 1 THEN 'refused' ELSE $1 END FROM generate_series(1, $2) AS i`, behind, n); err != nil {
		t.Fatal(err)
	}
	if _, err := NewParked(b.Service, func() {}).Redrive(t.Context(), b.list()[0].ID, unrecorded); err != nil {
		t.Fatal(err)
	}
	b.run()
	b.until("everything is published", func() bool { return b.rows("outbox") == 0 })
	var want []string
	for i := range n {
		want = append(want, strconv.Itoa(i+1))
	}
	if got := b.broker.payloads("a"); !slices.Equal(got, want) {
		t.Errorf("published %d, in order: %v", len(got), slices.IsSorted(got))
	}
	if left := b.rows("outbox_parked"); left != 0 {
		t.Errorf("%d are parked still", left)
	}
}

// unrecorded is the parked.Record of tests that look at what is done alone.
func unrecorded(context.Context, *sqlx.Tx, parked.Item) error { return nil }

// What cannot be recorded is not done.
func TestWhatIsDoneIsRecordedWithIt(t *testing.T) {
	b := setup(t)
	b.refuse("bad")
	_, stop := b.run()
	b.append(uuid.NewString(), "bad")
	b.until("it is parked", func() bool { return len(b.list()) == 1 })
	stop()
	operators := NewParked(b.Service, func() {})
	item := b.list()[0]
	no := errors.New("the record is full")
	record := func(_ context.Context, _ *sqlx.Tx, shown parked.Item) error {
		if shown.ID != item.ID || string(shown.Payload) != string(item.Payload) {
			t.Errorf("shown %+v, want %+v", shown, item)
		}
		return no
	}
	if _, err := operators.Redrive(t.Context(), item.ID, record); !errors.Is(err, no) {
		t.Errorf("redrive: %v", err)
	}
	if _, err := operators.Discard(t.Context(), item.ID, "why", record); !errors.Is(err, no) {
		t.Errorf("discard: %v", err)
	}
	if items := b.list(); len(items) != 1 || items[0].ID != item.ID {
		t.Errorf("parked %+v", items)
	}
}
