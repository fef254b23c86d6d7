package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/platform/stage"
)

const (
	batchOf      = 100
	batchClients = 8

	openRate     = 500  // orders per second of the open loop, of which the goal is
	openInFlight = 2000 // orders of the open loop that may be without an answer
)

func newOrder(account uuid.UUID) string {
	return fmt.Sprintf(`{"account_id":"%s","amount":"1.00","currency":"RUB"}`, account)
}

// place places an order.
func (s *site) place(i int) (int, error) {
	return 1, s.gateway.Call("POST", load.OrdersPath, "", s.bodies[i%len(s.bodies)], nil)
}

// placeBatch places 100 orders in a request.
func (s *site) placeBatch(i int) (int, error) {
	body := batch("orders", batchOf, func(n int) string { return newOrder(s.account(i*batchOf + n)) })
	return batchOf, s.gateway.Call("POST", load.OrdersPath+"/batch", "", body, nil)
}

// placeOrders places orders in a closed loop of so many clients and ends when the last of them is paid.
func placeOrders(clients int, place func(s *site, i int) (int, error)) runner {
	return func(ctx context.Context, s *site, duration time.Duration) (outcome, error) {
		last, err := s.lastOrder(ctx)
		if err != nil {
			return outcome{}, err
		}
		begin := time.Now()
		n, err := closedLoop(ctx, clients, duration, func(i int) (int, error) { return place(s, i) })
		if err != nil {
			return outcome{}, err
		}
		if err := s.final(ctx, last); err != nil {
			return outcome{}, err
		}
		took := time.Since(begin)
		return outcome{operations: n, took: took}, s.paid(ctx, last, n)
	}
}

// lastOrder returns the number of the newest order.
func (s *site) lastOrder(ctx context.Context) (seq int64, err error) {
	err = s.orders.GetContext(ctx, &seq, `SELECT coalesce(max(seq), 0) FROM orders`)
	return seq, err
}

// stuckTime is how long the oldest pending order may stay pending.
const stuckTime = time.Minute

// final waits until none of the orders after a number is pending. It never looks again at orders before the first
// pending one, so the wait costs the database next to nothing.
func (s *site) final(ctx context.Context, after int64) error {
	for stuck := time.Now().Add(stuckTime); ; {
		var pending int64
		err := s.orders.GetContext(ctx, &pending,
			`SELECT seq FROM orders WHERE seq > $1 AND status = 'pending' ORDER BY seq LIMIT 1`, after)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return nil
		case err != nil:
			return err
		case pending-1 > after:
			after, stuck = pending-1, time.Now().Add(stuckTime)
		case time.Now().After(stuck):
			return fmt.Errorf("order number %d is pending for %s", pending, stuckTime)
		}
		if !stage.Wait(ctx, 5*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// paid checks that there are exactly n orders after a number, and that they are paid.
func (s *site) paid(ctx context.Context, after int64, n int) error {
	var found struct{ Orders, Paid int }
	if err := s.orders.GetContext(ctx, &found, `
		SELECT count(*) AS orders, count(*) FILTER (WHERE status = 'paid') AS paid
			FROM orders WHERE seq > $1`, after); err != nil {
		return err
	}
	if found.Orders != n || found.Paid != n {
		return fmt.Errorf("%d orders were placed, but there are %d, and %d of them paid", n, found.Orders, found.Paid)
	}
	return nil
}

// Latency is how long single orders took at a fixed rate, in milliseconds: from the time at which the request was due
// to the answer with the final status, as the client saw it.
type Latency struct {
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`
	// Late counts requests that were sent after the next one was due, because the generator did not keep up.
	Late   int     `json:"sent_late"`
	Latest float64 `json:"sent_late_by_at_most_ms"`
}

// runLatency places orders at a fixed rate, and waits for the final status of each.
func runLatency(ctx context.Context, s *site, duration time.Duration) (outcome, error) {
	loop := load.OpenLoop{Rate: s.rate, Duration: duration, InFlight: openInFlight}
	begin := time.Now()
	timed, err := loop.Run(ctx, tenant{s.gateway, s.bodies}.order)
	latency := summary(timed.Latencies)
	latency.Late, latency.Latest = timed.Late, ms(timed.Latest)
	return outcome{operations: len(timed.Latencies), took: time.Since(begin), latency: &latency}, err
}
