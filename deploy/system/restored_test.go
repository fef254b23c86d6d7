package system

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/deploy/drill"
	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/testkit/localkafka"
	"github.com/altyn-pay/altyn/testkit/wait"
)

// restorable is a stack of which a database is given the state of an earlier moment.
type restorable struct {
	*bundle
	site    *drill.Site
	account uuid.UUID
}

// place places an order and waits until it has a status.
func (r *restorable) place(status string, order load.NewOrder) uuid.UUID {
	r.Helper()
	order.AccountID, order.Currency = r.account, "RUB"
	placed, err := r.client.Place(r.Context(), uuid.NewString(), order)
	if err != nil {
		r.Fatal(err)
	}
	r.becomes(placed.ID, status)
	return placed.ID
}

func (r *restorable) order(id uuid.UUID) (o load.Order, err error) {
	return o, r.client.Get(r.Context(), "/api/v1/orders/"+id.String(), &o)
}

func (r *restorable) becomes(id uuid.UUID, status string) {
	r.Helper()
	wait.NoError(r.T, func() error {
		o, err := r.order(id)
		if err == nil && o.Status != status {
			err = fmt.Errorf("order %s is %s (%s), not %s", id, o.Status, o.Reason, status)
		}
		return err
	})
}

// money moves money of the account over HTTP.
func (r *restorable) money(operation, amount string) {
	r.Helper()
	if err := r.client.Call("POST", "/api/v1/accounts/"+r.account.String()+"/"+operation, "",
		map[string]string{"amount": amount, "currency": "RUB"}, nil); err != nil {
		r.Fatal(err)
	}
}

func (r *restorable) has(actual, frozen string) {
	r.Helper()
	var b contract.Balances
	if err := r.client.Get(r.Context(), "/api/v1/accounts/"+r.account.String()+"/balance", &b); err != nil ||
		b.Actual["RUB"] != actual || b.Frozen["RUB"] != frozen {
		r.Errorf("the account has %+v, %v; not %s and %s", b, err, actual, frozen)
	}
}

// restore gives a service's database the state of a moment, by the steps of the runbook.
func (r *restorable) restore(service string, at time.Time) {
	r.Helper()
	if err := errors.Join(r.Stop(service), r.site.Restore(r.Context(), service, at)); err != nil {
		r.Fatal(err)
	}
	r.orders, r.bundle.payments = r.database(stack.Orders), r.database(stack.Payments)
}

// agree heals what differs, and shows that nothing is wrong afterwards.
func (r *restorable) agree() {
	r.Helper()
	if err := r.site.Agree(r.Context()); err != nil {
		r.Fatal(err)
	}
	if _, err := r.atRest(); err != nil {
		r.Errorf("the books are wrong: %v", err)
	}
}

func setupRestorable(t *testing.T, service string) *restorable {
	t.Helper()
	site, err := drill.Start(t.Context(), drill.Options{Binaries: binaries, Kafka: localkafka.Embedded, NoSync: true,
		Env: []string{"ORDERS_HEAL_AFTER=2s", "PAYMENTS_HEAL_AFTER=1h"}, Progress: func(line string) { t.Log(line) }})
	if err != nil {
		t.Fatal(err)
	}
	b := adopt(t, site.Stack, site.Close, localkafka.Embedded)
	if err := site.Backup(t.Context(), service); err != nil {
		t.Fatal(err)
	}
	return &restorable{bundle: b, site: site, account: b.accounts(1, "100.00")[0]}
}

// Payments loses what it did since a moment: what the broker still has is settled once more, and orders follow what
// payments now knows. No order that has failed or is cancelled takes money, and none takes it twice.
func TestPaymentsIsRestored(t *testing.T) {
	r := setupRestorable(t, stack.Payments)
	manual := load.NewOrder{Amount: "10.00", Capture: contract.CaptureManual}
	paid := r.place("paid", load.NewOrder{Amount: "10.00"})
	confirmed, rejected := r.place("authorized", manual), r.place("authorized", manual)
	refunded := r.place("paid", load.NewOrder{Amount: "10.00"})
	cancelled := r.place("paid", load.NewOrder{Amount: "10.00"})
	failed := r.place("failed", load.NewOrder{Amount: "1000.00"})
	r.has("50.00", "20.00")
	at := time.Now()

	// What the broker does not have is lost: what was done over HTTP.
	if _, err := r.client.Confirm(t.Context(), uuid.NewString(), confirmed, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := r.client.Reject(t.Context(), uuid.NewString(), rejected, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := r.client.Refund(t.Context(), uuid.NewString(), refunded, "4.00"); err != nil {
		t.Fatal(err)
	}
	r.becomes(confirmed, "paid")
	r.becomes(rejected, "failed")
	r.money("withdrawals", "44.00") // 20.00 are left
	tooMuch := r.place("failed", load.NewOrder{Amount: "40.00"})
	r.money("deposits", "80.00") // 100.00 are left
	covered := r.place("paid", load.NewOrder{Amount: "60.00"})
	if _, err := r.client.Cancel(t.Context(), uuid.NewString(), cancelled, ""); err != nil {
		t.Fatal(err)
	}
	r.becomes(cancelled, "cancelled")
	small := r.place("paid", load.NewOrder{Amount: "1.00"})
	r.has("49.00", "0.00")

	r.restore(stack.Payments, at)
	r.agree()
	for id, want := range map[uuid.UUID]struct{ status, captured, refunded string }{
		paid:      {"paid", "10.00", "0.00"},
		failed:    {"failed", "0.00", "0.00"},
		confirmed: {"authorized", "0.00", "0.00"}, // the confirmation is lost
		// The rejection is lost: the client was told that nothing is taken, so the order is cancelled.
		rejected:  {"cancelled", "0.00", "0.00"},
		refunded:  {"paid", "10.00", "0.00"}, // the refund is lost
		cancelled: {"cancelled", "10.00", "10.00"},
		// The withdrawal is lost, so there would be money, of which the client was told otherwise.
		tooMuch: {"cancelled", "40.00", "40.00"},
		covered: {"failed", "0.00", "0.00"}, // the deposit is lost
		small:   {"paid", "1.00", "0.00"},
	} {
		o, err := r.order(id)
		if err != nil || o.Status != want.status || o.CapturedAmount != want.captured || o.RefundedAmount != want.refunded {
			t.Errorf("order %s is %s (%s) with %s and %s, %v; not %+v", id, o.Status, o.Reason, o.CapturedAmount,
				o.RefundedAmount, err, want)
		}
	}
	r.has("69.00", "10.00")
	_, list := r.look("orders", "undone", "--since", at.Format(time.RFC3339Nano))
	if n := strings.Count(list, "\n"); n != 6 || !strings.HasSuffix(list, "\n5 were undone\n") {
		t.Errorf("undone are %s", list)
	}
	for _, id := range []uuid.UUID{confirmed, rejected, refunded, tooMuch, covered} {
		if !strings.Contains(list, id.String()) {
			t.Errorf("order %s is not among what was undone: %s", id, list)
		}
	}

	// What goes on from here is heard of.
	if _, err := r.client.Confirm(t.Context(), uuid.NewString(), confirmed, "7.00"); err != nil {
		t.Fatal(err)
	}
	r.becomes(confirmed, "paid")
	if _, err := r.client.Refund(t.Context(), uuid.NewString(), refunded, "5.00"); err != nil {
		t.Fatal(err)
	}
	r.agree()
	r.has("77.00", "0.00")
}

// Orders loses orders, cancellations and what became of payments since a moment: it has all of it again from the
// broker, and a repeated request finds its order.
func TestOrdersIsRestored(t *testing.T) {
	r := setupRestorable(t, stack.Orders)
	manual := load.NewOrder{Amount: "10.00", Capture: contract.CaptureManual}
	confirmed, cancelled := r.place("authorized", manual), r.place("paid", load.NewOrder{Amount: "10.00"})
	at := time.Now()

	if _, err := r.client.Confirm(t.Context(), uuid.NewString(), confirmed, "6.00"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.client.Cancel(t.Context(), uuid.NewString(), cancelled, "changed my mind"); err != nil {
		t.Fatal(err)
	}
	again := load.NewOrder{AccountID: r.account, Currency: "RUB", Amount: "20.00", ExpiresIn: "15m"}
	placed, err := r.client.Place(t.Context(), "a key", again)
	if err != nil {
		t.Fatal(err)
	}
	late := r.place("paid", load.NewOrder{Amount: "5.00"})
	if _, err := r.client.Cancel(t.Context(), uuid.NewString(), late, ""); err != nil {
		t.Fatal(err)
	}
	failed := r.place("failed", load.NewOrder{Amount: "1000.00"})
	for id, status := range map[uuid.UUID]string{confirmed: "paid", cancelled: "cancelled", placed.ID: "paid",
		late: "cancelled"} {
		r.becomes(id, status)
	}
	want := make(map[uuid.UUID]load.Order)
	for _, id := range []uuid.UUID{confirmed, cancelled, placed.ID, late, failed} {
		if want[id], err = r.order(id); err != nil {
			t.Fatal(err)
		}
	}
	r.has("74.00", "0.00")

	r.restore(stack.Orders, at)
	r.agree()
	for id, o := range want {
		got, err := r.order(id)
		got.UpdatedAt = o.UpdatedAt // the payment's events were read again
		if err != nil || !reflect.DeepEqual(got, o) {
			t.Errorf("order %s is %+v, %v; it was %+v", id, got, err, o)
		}
	}
	if repeated, err := r.client.Place(t.Context(), "a key", again); err != nil || repeated.ID != placed.ID {
		t.Errorf("the request with the key makes %+v, %v", repeated, err)
	}
	r.has("74.00", "0.00")
}

// Each database is lost under load and gets the state of a moment at random; then a standby takes over. The drill
// itself checks what became of everything that clients were told.
func TestDrill(t *testing.T) {
	site, err := drill.Start(t.Context(), drill.Options{Binaries: binaries, Kafka: localkafka.Embedded, NoSync: true,
		Progress: func(line string) { t.Log(line) }})
	if err != nil {
		t.Fatal(err)
	}
	adopt(t, site.Stack, site.Close, localkafka.Embedded)
	if err := site.Store(t.Context(), 1000); err != nil {
		t.Fatal(err)
	}
	under := drill.Load{Rate: 100, Duration: 2 * time.Second, Seed: rand.Uint64()}
	t.Log("seed", under.Seed)
	for _, lost := range []struct {
		service string
		lose    func(context.Context, string, drill.Load) (drill.Report, error)
		gone    bool // something that was answered
	}{
		{stack.Orders, site.LoseAndRestore, false},
		{stack.Payments, site.LoseAndRestore, true},
		{stack.Payments, site.FailOverUnderLoad, false},
	} {
		report, err := lost.lose(t.Context(), lost.service, under)
		if err != nil {
			t.Fatalf("%s: %v", lost.service, err)
		}
		t.Log(report)
		if report.Acts < 100 || lost.gone && (len(report.Gone) == 0 || report.Undone == 0 || report.Repeated == 0) {
			t.Errorf("nothing was tried: %s", report)
		}
	}
}
