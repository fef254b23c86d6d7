package status_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/orders/internal/status"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/money"
	"github.com/altyn-pay/altyn/platform/parked"
)

// poison makes the database refuse changes of an order until the function it returns is called.
func (b *bundle) poison(t *testing.T, o order.Order) (mend func()) {
	t.Helper()
	if _, err := b.db.Owner.Exec(`
		CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'poison'; END $$;
		CREATE TRIGGER refuse BEFORE UPDATE ON orders FOR EACH ROW WHEN (new.id = '` + o.ID.String() + `')
			EXECUTE FUNCTION refuse()`); err != nil {
		t.Fatal(err)
	}
	return func() {
		if _, err := b.db.Owner.Exec(`DROP TRIGGER refuse ON orders`); err != nil {
			t.Fatal(err)
		}
	}
}

// list is what operators see, read in pages of one.
func (b *bundle) list(t *testing.T) (items []parked.Item) {
	t.Helper()
	for after := (parked.Position{}); ; {
		page, err := b.worker.Parked(t.Context(), after, 1)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			return items
		}
		items = append(items, page...)
		after = page[0].Position()
	}
}

func (b *bundle) gauge(t *testing.T, name string) float64 {
	t.Helper()
	families, err := b.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			return family.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

func TestAParkedEventIsAppliedAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	orders := b.place(t, 2)
	mend := b.poison(t, orders[0])
	message := event(t, orders[0], contract.PaymentSucceeded, 1, nil)
	b.handle(t, message, event(t, orders[1], contract.PaymentSucceeded, 1, nil))
	<-b.changes // the other one's
	items := b.list(t)
	if len(items) != 1 || b.gauge(t, "altyn_orders_parked_events") != 1 {
		t.Fatalf("parked %+v", items)
	}
	item := items[0]
	if item.Source != "events" || item.Kind != contract.PaymentSucceededType || item.AccountID != orders[0].AccountID ||
		item.Attempts != 1 || !strings.Contains(item.Reason, "poison") || string(item.Payload) != string(message.Value) ||
		time.Since(time.Time(item.ParkedAt)) > time.Minute {
		t.Errorf("item %+v", item)
	}

	// Also where there is neither consumer nor producer.
	b.metrics = prometheus.NewRegistry()
	b.worker = status.New(b.store, currencies(), nil, func(o order.Order) { b.changes <- o }, quiet, b.metrics)
	again, err := b.worker.Redrive(t.Context(), item.ID, unrecorded)
	if err != nil || again.ID != item.ID || again.Attempts != 2 || again.ParkedAt != item.ParkedAt ||
		b.status(t, orders[0]) != order.Pending {
		t.Errorf("before it is mended: %+v, %v", again, err)
	}
	mend()
	if was, err := b.worker.Redrive(t.Context(), item.ID, unrecorded); err != nil ||
		was.ID != item.ID || was.Attempts != 2 {
		t.Errorf("mended: %+v, %v", was, err)
	}
	if got := b.status(t, orders[0]); got != order.Paid || len(b.list(t)) != 0 ||
		b.gauge(t, "altyn_orders_parked_events") != 0 {
		t.Errorf("the order is %s, parked %+v", got, b.list(t))
	}
	if changed := <-b.changes; changed.ID != orders[0].ID || changed.Status != order.Paid {
		t.Errorf("published %+v", changed)
	}
	history, err := b.store.Transitions(t.Context(), orders[0])
	if err != nil || len(history) != 1 || history[0].EventID.UUID.String() != message.Header("ce_id") {
		t.Errorf("history %+v, %v", history, err)
	}
	if _, err := b.worker.Redrive(t.Context(), item.ID, unrecorded); !errors.Is(err, parked.ErrNotFound) {
		t.Errorf("once more: %v", err)
	}
}

func TestAnEventThatIsOutdatedNeedNotBeApplied(t *testing.T) {
	t.Parallel()
	b := setup(t)
	o := b.place(t, 1)[0]
	mend := b.poison(t, o)
	b.handle(t, event(t, o, contract.PaymentCreated, 1, nil))
	mend()
	b.handle(t, event(t, o, contract.PaymentSucceeded, 2, nil))
	items := b.list(t)
	if len(items) != 1 || b.status(t, o) != order.Paid {
		t.Fatalf("parked %+v, the order is %s", items, b.status(t, o))
	}
	if _, err := b.worker.Redrive(t.Context(), items[0].ID, unrecorded); err != nil {
		t.Error(err)
	}
	if got := b.status(t, o); got != order.Paid || len(b.list(t)) != 0 {
		t.Errorf("the order is %s, parked %+v", got, b.list(t))
	}
}

// An event in a currency that this service does not have, or has with other digits, waits for the settings to be
// mended.
func TestAnEventInAnotherCurrencyIsParked(t *testing.T) {
	t.Parallel()
	b := setup(t)
	orders := b.place(t, 3)
	b.handle(t,
		event(t, orders[0], contract.PaymentSucceeded, 1, func(p *contract.Payment) {
			p.Amount, p.CapturedAmount = "10.000", "10.000"
		}),
		event(t, orders[1], contract.PaymentSucceeded, 1, func(p *contract.Payment) { p.Currency = "XQQ" }),
		event(t, orders[2], contract.PaymentSucceeded, 1, func(p *contract.Payment) {
			p.Amount, p.CapturedAmount = "10.001", "10.001"
		}))
	for i, want := range []order.Status{order.Paid, order.Pending, order.Pending} {
		if got := b.status(t, orders[i]); got != want {
			t.Errorf("order %d is %s, want %s", i, got, want)
		}
	}
	items := b.list(t)
	if len(items) != 2 || !strings.Contains(items[0].Reason+items[1].Reason, order.ErrCurrency.Error()) ||
		b.metric(t, "altyn_orders_dead_letters_total", "") != 0 {
		t.Fatalf("parked %+v", items)
	}
	// The file is mended, and the currency is there.
	path := filepath.Join(t.TempDir(), "currencies")
	if err := os.WriteFile(path, []byte("XQQ,2"), 0o600); err != nil {
		t.Fatal(err)
	}
	mended, err := money.LoadCurrencies(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.db.Owner.Exec(`UPDATE orders SET currency = 'XQQ' WHERE id = $1`, orders[1].ID); err != nil {
		t.Fatal(err)
	}
	b.worker = status.New(b.store, mended, b.producer, func(order.Order) {}, quiet, prometheus.NewRegistry())
	for _, item := range items {
		if _, err := b.worker.Redrive(t.Context(), item.ID, unrecorded); err != nil {
			t.Error(err)
		}
	}
	if got := b.status(t, orders[1]); got != order.Paid || len(b.list(t)) != 1 {
		t.Errorf("the order is %s, parked %+v", got, b.list(t))
	}
}

func TestWhatCannotBeAppliedStaysParked(t *testing.T) {
	t.Parallel()
	b := setup(t)
	orders := b.place(t, 2)
	unknown := orders[1]
	unknown.ID = uuid.New()
	b.handle(t, event(t, orders[0], contract.PaymentFailed, 1, nil),
		event(t, orders[0], contract.PaymentSucceeded, 2, nil))
	// What the dead letters did not take, for whatever reason, is parked too.
	stuck := []kafka.Message{{Topic: contract.TopicPayments, Offset: 100, Value: []byte("\xff")},
		event(t, unknown, contract.PaymentSucceeded, 1, nil)}
	if err := b.store.InTx(t.Context(), func(tx *sqlx.Tx) error {
		return b.store.Park(t.Context(), tx, []postgres.Refused{{Message: stuck[0], Reason: errors.New("stuck")},
			{Message: stuck[1], Reason: errors.New("stuck")}})
	}); err != nil {
		t.Fatal(err)
	}
	reasons := map[string]string{contract.PaymentSucceededType + "/false": "cannot become paid", "/true": "ce_type",
		contract.PaymentSucceededType + "/true": "unknown order"}
	items := b.list(t)
	if len(items) != len(reasons) {
		t.Fatalf("parked %+v", items)
	}
	for _, item := range items {
		for attempts := 2; attempts <= 3; attempts++ {
			again, err := b.worker.Redrive(t.Context(), item.ID, unrecorded)
			key := item.Kind + map[bool]string{true: "/true", false: "/false"}[item.Reason == "stuck"]
			if err != nil || again.ID != item.ID || again.Attempts != attempts ||
				!strings.Contains(again.Reason, reasons[key]) || reasons[key] == "" {
				t.Errorf("%s: %+v, %v; want %q", key, again, err, reasons[key])
			}
		}
	}
	if got := b.list(t); len(got) != 3 || b.status(t, orders[0]) != order.Failed ||
		b.status(t, orders[1]) != order.Pending {
		t.Errorf("parked %+v", got)
	}
	for i, item := range items {
		if was, err := b.worker.Discard(t.Context(), item.ID, "why", unrecorded); err != nil ||
			was.ID != item.ID || was.Attempts != 3 {
			t.Errorf("discarded %+v, %v", was, err)
		}
		if left := len(b.list(t)); left != len(items)-1-i {
			t.Errorf("%d are left", left)
		}
		if _, err := b.worker.Discard(t.Context(), item.ID, "why", unrecorded); !errors.Is(err, parked.ErrNotFound) {
			t.Errorf("once more: %v", err)
		}
	}
}

// unrecorded is the parked.Record of tests that look at what is done alone.
func unrecorded(context.Context, *sqlx.Tx, parked.Item) error { return nil }

// What cannot be recorded is not done, and what is done is recorded in its transaction.
func TestWhatIsDoneIsRecordedWithIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	o := b.place(t, 1)[0]
	mend := b.poison(t, o)
	b.handle(t, event(t, o, contract.PaymentSucceeded, 1, nil))
	item := b.list(t)[0]
	done := ""
	recorded := func(ctx context.Context, tx *sqlx.Tx, _ parked.Item) error {
		return tx.GetContext(ctx, &done, `
			SELECT status || ' ' || coalesce((SELECT attempts FROM parked_events), 0) FROM orders WHERE id = $1`, o.ID)
	}
	if _, err := b.worker.Redrive(t.Context(), item.ID, recorded); err != nil || done != "pending 2" {
		t.Errorf("redriven in vain: %v, recorded with %q", err, done)
	}
	mend()
	no := errors.New("the record is full")
	record := func(context.Context, *sqlx.Tx, parked.Item) error { return no }
	if _, err := b.worker.Redrive(t.Context(), item.ID, record); !errors.Is(err, no) {
		t.Errorf("redrive: %v", err)
	}
	if _, err := b.worker.Discard(t.Context(), item.ID, "why", record); !errors.Is(err, no) {
		t.Errorf("discard: %v", err)
	}
	if items := b.list(t); len(items) != 1 || items[0].ID != item.ID || b.status(t, o) != order.Pending {
		t.Errorf("parked %+v, the order is %s", items, b.status(t, o))
	}
	if _, err := b.worker.Redrive(t.Context(), item.ID, recorded); err != nil || done != "paid 0" {
		t.Errorf("redriven: %v, recorded with %q", err, done)
	}
}
