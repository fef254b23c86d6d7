// Package audit checks the books of a running system that has come to rest, to the last unit: each service audits its
// own, and both databases must agree. The whole-system tests, the demo and the benchmark end with it. It changes
// nothing.
package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/deploy/stack"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// Report sums up the books.
type Report struct {
	Orders, Operations int64
	OrdersByStatus     map[string]int64
}

// Option permits something that the books may otherwise not contain.
type Option string

// EventsLost is for a broker that has lost events. A payment's state was announced again later then, so its order's
// history may lack the states in between.
const EventsLost Option = "events lost"

// Services has a service audit its own books.
type Services func(ctx context.Context, service string) error

// Of runs the services' programs of a stack, with the command audit.
func Of(s *stack.Stack) Services {
	return func(ctx context.Context, service string) error {
		return run(s.Command(ctx, service, "audit", "--load", "100"))
	}
}

func run(command *exec.Cmd) error {
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", command, err, output)
	}
	return nil
}

// Built is Of for a server that is no stack's, with the programs of this version, which it builds where make start
// does.
func Built(ctx context.Context, server pg.Config) (Services, error) {
	root, err := stack.Root()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(root, ".altyn", "bin")
	return func(ctx context.Context, service string) error {
		command := exec.CommandContext(ctx, filepath.Join(dir, service), "audit", "--load", "100")
		command.Env = append(os.Environ(), "POSTGRES_HOST="+server.Host, fmt.Sprintf("POSTGRES_PORT=%d", server.Port))
		return run(command)
	}, stack.Build(ctx, dir)
}

// Check audits both databases. Call it when the system has come to rest: orders and messages that are still under way
// are errors, but orders that wait for somebody outside are not. The error joins everything that is wrong.
func Check(ctx context.Context, orders, payments *sqlx.DB, services Services, options ...Option) (Report, error) {
	var rules []rule
	if !slices.Contains(options, EventsLost) {
		rules = historyRules
	}
	var report Report
	err := errors.Join(
		checkQueues(ctx, "orders", orders, "outbox", "outbox_waiting", "outbox_parked", "parked_events"),
		checkQueues(ctx, "payments", payments, "inbox", "inbox_stops", "outbox", "outbox_waiting", "outbox_parked"),
		services(ctx, "orders"), services(ctx, "payments"),
		check(ctx, "orders", orders, rules), check(ctx, "payments", payments, restRules),
		checkSaga(ctx, orders, payments, &report),
		payments.GetContext(ctx, &report.Operations, `SELECT count(*) FROM operations`),
	)
	return report, err
}

// errLeft says that the queues were not empty, so that whatever else was found may be right a moment later.
var errLeft = errors.New("are left")

// restTimeout bounds the wait for the queues to drain.
const restTimeout = time.Minute

// AtRest is Check once nothing moves by itself any more: both services' queues have drained, each order knows of all
// its payment's states, each payment of its goods, and no deadline is due. It waits for that for a minute at most,
// and begins again if something has come in meanwhile, such as a message that was delivered twice.
func AtRest(ctx context.Context, orders, payments *sqlx.DB, services Services, options ...Option) (Report, error) {
	waiting, cancel := context.WithTimeout(ctx, restTimeout)
	defer cancel()
	for {
		if moving, err := underWay(waiting, orders, payments); err == nil && !moving || waiting.Err() != nil {
			report, err := Check(ctx, orders, payments, services, options...)
			if !errors.Is(err, errLeft) || waiting.Err() != nil {
				return report, err
			}
		}
		select {
		case <-waiting.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// underWay reports whether anything still moves. What waits for goods, money or a confirmation does not: somebody
// outside has the next move.
func underWay(ctx context.Context, orders, payments *sqlx.DB) (bool, error) {
	err := errors.Join(checkQueues(ctx, "orders", orders, "outbox", "outbox_waiting"),
		checkQueues(ctx, "payments", payments, "inbox", "outbox", "outbox_waiting"))
	if err != nil {
		return true, nil
	}
	var ordered, paid struct {
		N       int64 `db:"n"`
		Seen    int64 `db:"seen"` // versions of payments, without their epoch (contract.Epoch)
		Between int64 `db:"between"`
	}
	err = errors.Join(
		orders.GetContext(ctx, &ordered, `
			SELECT count(*) AS n, coalesce(sum(`+ownVersion+`), 0) AS seen,
				count(*) FILTER (WHERE status = 'cancelling') AS between
			FROM orders`),
		payments.GetContext(ctx, &paid, `
			SELECT count(*) AS n, coalesce(sum(version), 0) AS seen,
				(SELECT count(*) FROM holds WHERE status = 'open' AND expires_at <= clock_timestamp())
				+ (SELECT count(*) FROM waits w WHERE expires_at <= clock_timestamp() OR what = 'waiting_for_inventory'
					AND EXISTS (SELECT FROM inventory i JOIN payments p USING (order_id, tenant) WHERE i.order_id = w.id)) AS between
			FROM payments`))
	return ordered.N != paid.N || ordered.Seen != paid.Seen || ordered.Between+paid.Between > 0, err
}

// checkQueues returns an error for each table that is not empty.
func checkQueues(ctx context.Context, name string, db *sqlx.DB, tables ...string) error {
	var errs []error
	for _, table := range tables {
		var n int64
		if err := db.GetContext(ctx, &n, `SELECT count(*) FROM `+table); err != nil {
			return err
		}
		if n > 0 {
			errs = append(errs, fmt.Errorf("%s: %d rows %w in %s", name, n, errLeft, table))
		}
	}
	return errors.Join(errs...)
}

// sagaRow is an order as one of the services knows it.
type sagaRow struct {
	ID       uuid.UUID `db:"id"`
	Account  uuid.UUID `db:"account_id"`
	Currency string    `db:"currency"`
	Amount   int64     `db:"amount"`
	Captured int64     `db:"captured"`
	Refunded int64     `db:"refunded"`
	Version  int64     `db:"version"` // of the payment
	Status   string    `db:"status"`
	Reason   string    `db:"reason"`
	Tenant   string    `db:"tenant"`
}

// orderStatus is the status of an order by that of its payment.
var orderStatus = map[string]string{
	"created": "pending", "authorized": "authorized", "succeeded": "paid", "refunded": "paid", "failed": "failed",
	"cancelled": "cancelled",
}

// checkSaga reads orders and payments side by side. Each must have exactly one counterpart, which agrees.
func checkSaga(ctx context.Context, orders, payments *sqlx.DB, report *Report) error {
	left, err := orders.QueryxContext(ctx, `
		SELECT id, account_id, currency, amount, captured, refunded, `+ownVersion+` AS version, status, reason,
			tenant
			FROM orders ORDER BY id`)
	if err != nil {
		return fmt.Errorf("audit of orders: %w", err)
	}
	defer left.Close()
	right, err := payments.QueryxContext(ctx, `
		SELECT order_id AS id, account_id, split_part(currency, ',', 1) AS currency, amount, captured, refunded, version,
			status, reason, tenant FROM payments ORDER BY order_id`)
	if err != nil {
		return fmt.Errorf("audit of payments: %w", err)
	}
	defer right.Close()

	const maxErrors = 10
	var errs []error
	report.OrdersByStatus = map[string]int64{}
	for {
		order, more, err := next(left)
		if err != nil {
			return err
		}
		payment, morePayments, err := next(right)
		if err != nil {
			return err
		}
		if !more && !morePayments {
			break
		}
		if !more || !morePayments || order.ID != payment.ID {
			errs = append(errs, fmt.Errorf("order %s (%s) and payment %s stand side by side: one has no counterpart", order.ID,
				order.Status, payment.ID))
			break
		}
		report.Orders++
		report.OrdersByStatus[order.Status]++
		expected := payment
		expected.Status = orderStatus[payment.Status]
		// That part of it was returned is no reason for being paid; a cancellation's may be its note, of an earlier version.
		if expected.Status == "paid" || expected.Status == "cancelled" {
			expected.Reason, order.Reason = "", ""
		}
		if order != expected {
			if errs = append(errs, fmt.Errorf("order %+v does not agree with its payment %+v", order,
				payment)); len(errs) == maxErrors {
				break
			}
		}
	}
	return errors.Join(errs...)
}

func next(rows *sqlx.Rows) (row sagaRow, ok bool, err error) {
	if !rows.Next() {
		return row, false, rows.Err()
	}
	return row, true, rows.StructScan(&row)
}
