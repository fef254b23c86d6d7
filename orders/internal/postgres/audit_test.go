package postgres_test

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/audit"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
	"github.com/altyn-pay/altyn/testkit/wait"
)

// settled places an order at a time and brings it through the states of its payment, and a cancellation where a state
// is "". It returns its ID.
func (b bundle) settled(t *testing.T, at time.Time, states ...string) uuid.UUID {
	t.Helper()
	p := placement(t, nil)
	p.Order.CreatedAt, p.Order.UpdatedAt = at, at
	place(t, b.store, p)
	o := p.Order
	for i, state := range states {
		before := o
		var step *order.Transition
		var err error
		var cancellations []postgres.Cancellation
		if state == "" {
			step, err = o.Cancel("", at)
			cancellations = []postgres.Cancellation{{OrderID: o.ID, Fingerprint: uuid.New(), At: at}}
		} else {
			payment := order.Payment{EventID: uuid.New(), OrderID: o.ID, AccountID: o.AccountID, Currency: o.Currency,
				Amount: o.Amount, Status: state, Version: int64(i + 1)}
			switch state {
			case contract.PaymentSucceeded:
				payment.Captured = o.Amount
			case contract.PaymentCancelled:
				payment.Captured, payment.Refunded = before.Captured, before.Captured
			}
			step, err = o.Apply(payment, at)
		}
		if err != nil || step == nil {
			t.Fatalf("%s: %v", state, err)
		}
		if err := b.store.InTx(t.Context(), func(tx *sqlx.Tx) error {
			if err := b.store.SaveCancellations(t.Context(), tx, cancellations); err != nil {
				return err
			}
			return b.store.Save(t.Context(), tx, []order.Order{o}, []order.Transition{*step})
		}); err != nil {
			t.Fatal(err)
		}
	}
	return o.ID
}

// Each rule finds what it is about, names it, and finds nothing in right books: in a pass over everything, and among
// what has changed. So does the worker, which forgets what is mended.
func TestAuditFindsEachFault(t *testing.T) {
	t.Parallel()
	b := setup(t)
	long := time.Now().Add(-time.Hour).UTC().Truncate(time.Microsecond)
	b.settled(t, long)
	failed := b.settled(t, long, contract.PaymentFailed)
	paid := b.settled(t, long, contract.PaymentCreated, contract.PaymentAuthorized, contract.PaymentSucceeded)
	cancelled := b.settled(t, long, contract.PaymentSucceeded, "", contract.PaymentCancelled)
	b.settled(t, long, "", contract.PaymentCancelled)

	registry := prometheus.NewRegistry()
	worker := audit.NewWorker(b.Service, postgres.Books, audit.Config{Every: time.Millisecond, Load: 100},
		slog.New(slog.DiscardHandler), registry)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- worker.Run(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	// passes waits until the worker has begun and ended a pass from now on.
	passes := func() {
		t.Helper()
		const after = `SELECT count(*) FROM audit WHERE ended_at > began_at AND began_at > $1`
		var now time.Time
		if err := b.Owner.Get(&now, `SELECT clock_timestamp()`); err != nil {
			t.Fatal(err)
		}
		postgrestest.AwaitCount(t, b.Service, 1, after, now)
	}
	look := func() []audit.Finding {
		t.Helper()
		pass, err := postgres.Books.Pass(t.Context(), b.Service, 100, func(audit.Place, audit.Result) {})
		if err != nil || pass.Rows < 10 {
			t.Fatalf("%+v, %v", pass, err)
		}
		return pass.Findings
	}
	if found := look(); len(found) > 0 {
		t.Fatalf("found in right books: %v", found)
	}
	passes()
	postgrestest.AwaitCount(t, b.Service, 0, `SELECT count(*) FROM audit_findings`)
	tables := []string{"orders", "order_history", "cancellations", "unsettled"}
	for _, table := range tables {
		b.Owner.MustExec(`CREATE TABLE saved_` + table + ` AS TABLE ` + table)
	}
	for _, fault := range []struct {
		rule  string
		id    uuid.UUID
		spoil string
	}{
		{"order_history", paid, `UPDATE orders SET status = 'failed', captured = 0 WHERE id = $1`},
		{"order_history", paid, `UPDATE orders SET version = version + 1 WHERE id = $1`},
		{"order_history", failed, `DELETE FROM order_history WHERE order_id = $1`},
		{"order_version", paid, `UPDATE orders SET payment_version = payment_version - 1 WHERE id = $1`},
		{"order_cancellation", cancelled, `DELETE FROM cancellations WHERE order_id = $1`},
		{"order_cancellation", paid, `INSERT INTO cancellations (order_id, fingerprint, reason, at)
			VALUES ($1, gen_random_uuid(), '', now())`},
		{"order_amounts", paid, `UPDATE orders SET captured = 0 WHERE id = $1`},
		{"order_amounts", cancelled, `UPDATE orders SET refunded = 0 WHERE id = $1`},
		{"history_follows", paid, `DELETE FROM order_history WHERE order_id = $1 AND number = 2`},
		{"history_follows", paid, `UPDATE order_history SET to_status = 'pending' WHERE order_id = $1 AND number = 3`},
		{"history_order", paid, `DELETE FROM orders WHERE id = $1`},
		{"cancellation_order", cancelled, `DELETE FROM orders WHERE id = $1`},
		{"unsettled_order", cancelled, `DELETE FROM orders WHERE id = $1`},
	} {
		b.Owner.MustExec(fault.spoil, fault.id)
		named := func(f audit.Finding) bool { return f.Rule == fault.rule && f.ID == fault.id }
		if found := look(); !slices.ContainsFunc(found, named) {
			t.Errorf("%s: after %s of %s a pass finds %v", fault.rule, fault.spoil, fault.id, found)
		}
		changed, err := postgres.Books.Follow(t.Context(), b.Service, 100, long.Add(-time.Second).UnixMicro())
		if err != nil || !slices.ContainsFunc(changed.Findings, named) && fault.id != failed { // which has no line any more
			t.Errorf("%s: after %s of %s among the changes %v is found, %v", fault.rule, fault.spoil, fault.id,
				changed.Findings, err)
		}
		postgrestest.AwaitCount(t, b.Service, 1, `SELECT count(DISTINCT id) FROM audit_findings WHERE rule = $1 AND id = $2`,
			fault.rule, fault.id)
		wait.Until(t, fault.rule+" is counted", func() bool { return findings(t, registry)[fault.rule] > 0 })
		for _, table := range tables {
			b.Owner.MustExec(`DELETE FROM ` + table)
			b.Owner.MustExec(`INSERT INTO ` + table + ` OVERRIDING SYSTEM VALUE SELECT * FROM saved_` + table)
		}
		postgrestest.AwaitCount(t, b.Service, 0, `SELECT count(*) FROM audit_findings`)
	}
}

// findings are what the metrics say, by rule.
func findings(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]float64)
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if family.GetName() == "altyn_audit_findings" {
				found[metric.GetLabel()[0].GetValue()] = metric.GetGauge().GetValue()
			}
		}
	}
	return found
}
