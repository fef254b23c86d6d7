package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/deploy/load"
)

const (
	batchOf      = 100
	batchClients = 8

	openRate     = 500  // orders per second of the open loop, unless -rate says otherwise
	openInFlight = 2000 // orders of the open loop that may be without an answer
)

func newOrder(account uuid.UUID) string {
	return fmt.Sprintf(`{"account_id":"%s","amount":"1.00","currency":"RUB"}`, account)
}

// runOrders places orders one per request.
func runOrders(ctx context.Context, s *site, what string, duration time.Duration) (outcome, error) {
	bodies := make([][]byte, len(s.accounts))
	for i, account := range s.accounts {
		bodies[i] = []byte(newOrder(account))
	}
	return s.placeOrders(ctx, what, s.clients, duration, func(i int) (int, error) {
		return 1, s.gateway.Call("POST", load.OrdersPath, "", bodies[i%len(bodies)], nil)
	})
}

// runOrderBatches places 100 orders per request.
func runOrderBatches(ctx context.Context, s *site, what string, duration time.Duration) (outcome, error) {
	return s.placeOrders(ctx, what, batchClients, duration, func(i int) (int, error) {
		body := batch("orders", batchOf, func(n int) string { return newOrder(s.account(i*batchOf + n)) })
		return batchOf, s.gateway.Call("POST", load.OrdersPath+"/batch", "", body, nil)
	})
}

// placeOrders places orders in a closed loop and ends when the last of them is paid.
func (s *site) placeOrders(ctx context.Context, what string, clients int, duration time.Duration,
	place func(i int) (int, error)) (outcome, error) {
	last, err := s.lastOrder(ctx)
	if err != nil {
		return outcome{}, err
	}
	begin := time.Now()
	n, err := closedLoop(ctx, what, clients, duration, place)
	if err != nil {
		return outcome{}, err
	}
	if err := s.final(ctx, last); err != nil {
		return outcome{}, err
	}
	took := time.Since(begin)
	return outcome{operations: n, took: took}, s.paid(ctx, last, n)
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
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return err
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

// Latency is how long single orders took at a fixed rate, in milliseconds.
type Latency struct {
	// As the client saw it, from the time at which the request was due to the answer with the final status.
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`
	// By the service's own times: updated_at − created_at.
	ServiceP50 float64 `json:"service_p50_ms"`
	ServiceP99 float64 `json:"service_p99_ms"`
	// Late counts requests that were sent after the next one was due, because the generator did not keep up.
	Late   int     `json:"sent_late"`
	Latest float64 `json:"sent_late_by_at_most_ms"`
}

// runLatency places orders at a fixed rate, and waits for the final status of each.
func runLatency(ctx context.Context, s *site, what string, duration time.Duration) (outcome, error) {
	loop := load.OpenLoop{Rate: s.rate, Duration: duration, InFlight: openInFlight}
	orders := int(s.rate * duration.Seconds())
	progress := load.NewProgress(os.Stderr, what, orders)
	defer progress.Close()
	took := make([]time.Duration, orders+1)
	begin := time.Now()
	timed, err := loop.Run(ctx, func(i int) error {
		var order load.Order
		if err := s.gateway.Call("POST", load.OrdersPath+"?wait=30s", "", []byte(newOrder(s.account(i))),
			&order); err != nil {
			return err
		}
		if order.Status != "paid" {
			return fmt.Errorf("order %s is %s %s", order.ID, order.Status, order.Reason)
		}
		took[i] = order.UpdatedAt.Sub(order.CreatedAt)
		progress.Add(1)
		return nil
	})
	if err != nil {
		return outcome{}, err
	}
	n := len(timed.Latencies)
	service := sorted(took[:n])
	return outcome{operations: n, took: time.Since(begin), latency: &Latency{
		P50: ms(timed.Quantile(0.5)), P99: ms(timed.Quantile(0.99)), Max: ms(timed.Quantile(1)),
		ServiceP50: ms(load.Quantile(service, 0.5)), ServiceP99: ms(load.Quantile(service, 0.99)),
		Late: timed.Late, Latest: ms(timed.Latest),
	}}, nil
}
