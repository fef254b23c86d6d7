package main

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/deploy/load"
)

// Soak says what many orders in one go did to the system.
type Soak struct {
	Orders    int      `json:"orders"`
	PerSecond float64  `json:"per_second"`
	Rule      string   `json:"rule"`
	Grows     []string `json:"grows,omitempty"` // what is against the rule
	Reached   bool     `json:"reached"`
	Growth    []Growth `json:"growth"`
	Samples   []Sample `json:"samples"`
}

const (
	soakGoal = "no growth of tables' dead space, queues, memory or goroutines"
	// soakSamples are taken, evenly over the orders.
	soakSamples = 24
)

// soaked places many orders, one per request, and watches what grows.
func (b *bench) soaked(ctx context.Context, s *site) error {
	if err := s.open(ctx, b.Accounts); err != nil {
		return err
	}
	soak, err := s.soak(ctx, b.Soak)
	b.report.Soak = &soak
	return err
}

func (s *site) soak(ctx context.Context, orders int) (Soak, error) {
	soak := Soak{Orders: orders, Rule: growthRule}
	last, err := s.lastOrder(ctx)
	if err != nil {
		return soak, err
	}
	bodies := make([][]byte, len(s.accounts))
	for i, account := range s.accounts {
		bodies[i] = []byte(newOrder(account))
	}
	progress := load.NewProgress(os.Stderr, "soak", orders)
	defer progress.Close()

	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	begin := time.Now()
	var placed atomic.Int64
	due := make(chan struct{}, soakSamples) // has room for all, so that it never blocks who places orders
	sampled := make(chan error, 1)
	go func() {
		for range due {
			sample, err := s.sample(ctx, int(placed.Load()), begin)
			if err != nil {
				fail(err)
				sampled <- err
				return
			}
			soak.Samples = append(soak.Samples, sample)
		}
		sampled <- nil
	}()
	err = load.Each(ctx, orders, s.clients, func(i int) error {
		if err := s.gateway.Call("POST", load.OrdersPath, "", bodies[i%len(bodies)], nil); err != nil {
			return err
		}
		progress.Add(1)
		n := int(placed.Add(1))
		if n*soakSamples/orders > (n-1)*soakSamples/orders {
			due <- struct{}{}
		}
		return nil
	})
	close(due)
	if sampleErr := <-sampled; sampleErr != nil {
		err = sampleErr
	}
	if err != nil {
		return soak, err
	}
	if err := s.final(ctx, last); err != nil {
		return soak, err
	}
	soak.PerSecond = float64(orders) / time.Since(begin).Seconds()
	for i := range soak.Samples {
		before := Sample{}
		if i > 0 {
			before = soak.Samples[i-1]
		}
		now := &soak.Samples[i]
		now.PerSecond = float64(now.Orders-before.Orders) / (now.Seconds - before.Seconds)
	}
	soak.Growth = growth(soak.Samples)
	soak.Grows = verdict(soak.Growth)
	soak.Reached = len(soak.Grows) == 0
	return soak, s.paid(ctx, last, orders)
}

// sample looks at everything that might grow.
func (s *site) sample(ctx context.Context, orders int, begin time.Time) (Sample, error) {
	sample := Sample{Orders: orders, Seconds: time.Since(begin).Seconds(), Depths: map[string]int64{},
		Tables: map[string]Table{}}
	for _, database := range []struct {
		name   string
		db     *sqlx.DB
		queues []string
	}{{"orders", s.orders, []string{"outbox"}}, {"payments", s.billing, []string{"inbox", "outbox"}}} {
		for _, queue := range database.queues {
			var depth int64
			if err := database.db.GetContext(ctx, &depth, `SELECT count(*) FROM `+queue); err != nil {
				return sample, fmt.Errorf("sample: %w", err)
			}
			sample.Depths[database.name+"."+queue] = depth
		}
		var tables []struct {
			Name              string
			Bytes, Live, Dead int64
		}
		if err := database.db.SelectContext(ctx, &tables, `
			SELECT relname AS name, pg_total_relation_size(relid) AS bytes, n_live_tup AS live, n_dead_tup AS dead
			FROM pg_stat_user_tables`); err != nil {
			return sample, fmt.Errorf("sample: %w", err)
		}
		for _, t := range tables {
			sample.Tables[database.name+"."+t.Name] = Table{t.Bytes, t.Live, t.Dead}
		}
	}
	var err error
	if sample.RSS, err = s.memory("VmRSS"); err != nil {
		return sample, err
	}
	sample.Routines, err = s.goroutines(ctx)
	return sample, err
}
