package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/platform/stage"
)

const (
	fairnessName = "fairness"
	// share is what the gateway lets each tenant ask for, in requests per second.
	share = 100
	// quietTenants send most of their share, and the loud one ten times its own.
	quietTenants = 3
	quietPart    = 0.9
	loudTimes    = 10

	fairTimes    = 1.2
	fairAccounts = 50 // of each tenant

	// saved is how long the loud tenant floods before the others are looked at: it has not used its share before, and so
	// may send that of a second at once.
	saved = 2 * time.Second
)

var fairnessGoal = fmt.Sprintf("p99 ≤ %.1f × of what it is without the loud tenant", fairTimes)

// fairLimits are the settings of the services for this part.
var fairLimits = []string{"LIMIT_TENANT_RATE=" + strconv.Itoa(share)}

// Fairness says what tenants that keep to their share notice of one that does not.
type Fairness struct {
	Alone    Latency `json:"alone"`  // of the quiet tenants' orders, accepted → final
	Beside   Latency `json:"beside"` // the same beside the loud tenant
	Ratio    Spread  `json:"p99_ratio"`
	Accepted int64   `json:"loud_accepted"`
	Refused  int64   `json:"loud_refused"`
	Reached  bool    `json:"reached"`
}

// tenant is one with accounts, and its token.
type tenant struct {
	client *load.Client
	bodies [][]byte
}

// tenant opens the accounts of a tenant, at half of the rate that it may have.
func (s *site) tenant(ctx context.Context, name string) (t tenant, err error) {
	token, err := s.Token(ctx, "bench", name, load.Scopes()...)
	if err != nil {
		return t, err
	}
	t.client = s.gateway.As(token)
	for range fairAccounts {
		ids, err := t.client.Accounts(ctx, 1, 1, "1000000000.00", "RUB")
		if err != nil {
			return t, err
		}
		t.bodies = append(t.bodies, []byte(newOrder(ids[0])))
		stage.Wait(ctx, 4*time.Second/share) // an account takes two requests
	}
	return t, nil
}

// order places an order and waits until it is paid.
func (t tenant) order(i int) error {
	var order load.Order
	if err := t.client.Call("POST", load.OrdersPath+"?wait=30s", "", t.bodies[i%len(t.bodies)], &order); err != nil {
		return err
	}
	if order.Status != "paid" {
		return fmt.Errorf("order %s is %s %s", order.ID, order.Status, order.Reason)
	}
	return nil
}

// fairness places orders of tenants that keep to their share, in turn without and with one that does not.
func (b *bench) fairness(ctx context.Context, s *site) error {
	quiet := make([]tenant, quietTenants)
	var group errgroup.Group
	for i := range quiet {
		group.Go(func() (err error) {
			quiet[i], err = s.tenant(ctx, "quiet-"+strconv.Itoa(i))
			return err
		})
	}
	loud, err := s.tenant(ctx, "loud")
	if err = errors.Join(err, group.Wait()); err != nil {
		return err
	}
	if _, err := latencies(ctx, quiet, b.Duration/4); err != nil { // to warm up
		return err
	}
	var found Fairness
	var alone, beside []time.Duration
	var ratios []float64
	for n := range b.Repeats {
		before, err := latencies(ctx, quiet, b.Duration)
		if err != nil {
			return err
		}
		var during []time.Duration
		group, ctx := errgroup.WithContext(ctx)
		group.Go(func() error { return loud.flood(ctx, saved+b.Duration, &found) })
		group.Go(func() (err error) {
			stage.Wait(ctx, saved)
			during, err = latencies(ctx, quiet, b.Duration)
			return err
		})
		if err := group.Wait(); err != nil {
			return err
		}
		ratio := ms(load.Quantile(during, 0.99)) / ms(load.Quantile(before, 0.99))
		say("round %d/%d, fairness: p99 %.1f ms alone, %.1f ms beside the loud tenant: %.2f times", n+1, b.Repeats,
			ms(load.Quantile(before, 0.99)), ms(load.Quantile(during, 0.99)), ratio)
		alone, beside, ratios = append(alone, before...), append(beside, during...), append(ratios, ratio)
	}
	found.Alone, found.Beside, found.Ratio = summary(alone), summary(beside), spread(ratios)
	found.Reached = found.Ratio.Median <= fairTimes
	b.report.Fairness = &found
	return nil
}

// latencies places the orders of tenants at a fixed rate each, and returns how long they took, sorted.
func latencies(ctx context.Context, tenants []tenant, duration time.Duration) ([]time.Duration, error) {
	timed := make([]load.Timed, len(tenants))
	group, ctx := errgroup.WithContext(ctx)
	for i, t := range tenants {
		group.Go(func() (err error) {
			loop := load.OpenLoop{Rate: quietPart * share, Duration: duration, InFlight: openInFlight}
			timed[i], err = loop.Run(ctx, t.order)
			return err
		})
	}
	err := group.Wait()
	var all []time.Duration
	for _, t := range timed {
		all = append(all, t.Latencies...)
	}
	slices.Sort(all)
	return all, err
}

// flood sends more than the tenant may, whatever is refused of it.
func (t tenant) flood(ctx context.Context, duration time.Duration, found *Fairness) error {
	var accepted, refused atomic.Int64
	loop := load.OpenLoop{Rate: loudTimes * share, Duration: duration, InFlight: openInFlight}
	_, err := loop.Run(ctx, func(i int) error {
		err := t.order(i)
		var status *load.StatusError
		switch {
		case err == nil:
			accepted.Add(1)
		case errors.As(err, &status) && status.Status == http.StatusTooManyRequests:
			refused.Add(1)
		default:
			return err
		}
		return nil
	})
	found.Accepted += accepted.Load()
	found.Refused += refused.Load()
	return err
}

func summary(all []time.Duration) Latency {
	slices.Sort(all)
	return Latency{P50: ms(load.Quantile(all, 0.5)), P99: ms(load.Quantile(all, 0.99)), Max: ms(load.Quantile(all, 1))}
}
