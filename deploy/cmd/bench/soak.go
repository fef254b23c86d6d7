package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/deploy/load"
)

// Soak says what many orders in one go did to the system.
type Soak struct {
	Orders    int      `json:"orders"`
	PerSecond float64  `json:"per_second"`
	Reached   bool     `json:"reached"` // nothing grows
	Growth    []Growth `json:"growth"`
	Samples   []Sample `json:"samples"`
}

// Sample is the state of the system after so many orders of a soak.
type Sample struct {
	Orders    int                `json:"orders"`     // placed so far
	PerSecond float64            `json:"per_second"` // since the sample before
	Figures   map[string]float64 `json:"figures"`    // by their unit and what they are about
}

const (
	soakGoal = "no growth of tables' dead space, queues or memory"
	// soakSamples are taken, evenly over the orders.
	soakSamples = 24
)

// soak places many orders, one per request, and watches what grows.
func (b *bench) soak(ctx context.Context, s *site) error {
	last, err := s.lastOrder(ctx)
	if err != nil {
		return err
	}
	soak := Soak{}
	begin := time.Now()
	for len(soak.Samples) < soakSamples {
		began, before := time.Now(), soak.Orders
		soak.Orders = b.Soak * (len(soak.Samples) + 1) / soakSamples
		if err := load.Each(ctx, soak.Orders-before, clients, func(i int) error {
			_, err := s.place(i)
			return err
		}); err != nil {
			return err
		}
		rate := float64(soak.Orders-before) / time.Since(began).Seconds()
		say("soak: %d of %d orders, %.0f/s", soak.Orders, b.Soak, rate)
		figures, err := s.figures(ctx, soak.Orders)
		if err != nil {
			return fmt.Errorf("sample: %w", err)
		}
		soak.Samples = append(soak.Samples, Sample{soak.Orders, rate, figures})
	}
	if err := s.final(ctx, last); err != nil {
		return err
	}
	soak.PerSecond = float64(soak.Orders) / time.Since(begin).Seconds()
	soak.Growth = growth(soak.Samples)
	soak.Reached = !slices.ContainsFunc(soak.Growth, Growth.Grows)
	b.report.Soak = &soak
	return s.paid(ctx, last, soak.Orders)
}

// The units of figures, and by what the last third of a soak may exceed the middle third beside a tenth: by what comes
// and goes between two runs of autovacuum, and by what is nothing.
const (
	unitWaiting  = "rows waiting"
	unitMB       = "MB"
	unitDead     = "dead rows"
	unitDeadPart = "% dead"
	unitPerOrder = "bytes per order"
)

var slack = map[string]float64{unitWaiting: 1000, unitMB: 4, unitDead: 20_000, unitDeadPart: 5}

// growing are the tables to which every order adds rows for good. All others must keep their size.
var growing = []string{"orders.orders", "orders.order_history", "payments.operations", "payments.entries",
	"payments.payments"}

// figures looks at everything that might grow.
func (s *site) figures(ctx context.Context, orders int) (map[string]float64, error) {
	figures := map[string]float64{}
	add := func(unit, what string, value float64) { figures[unit+": "+what] = value }
	for _, database := range []struct {
		name   string
		db     *sqlx.DB
		queues []string
	}{{"orders", s.orders, []string{"outbox"}}, {"payments", s.billing, []string{"inbox", "outbox"}}} {
		for _, queue := range database.queues {
			var depth float64
			if err := database.db.GetContext(ctx, &depth, `SELECT count(*) FROM `+queue); err != nil {
				return nil, err
			}
			add(unitWaiting, database.name+"."+queue, depth)
		}
		var tables []struct {
			Name              string
			Bytes, Live, Dead float64
		}
		if err := database.db.SelectContext(ctx, &tables, `
			SELECT relname AS name, pg_total_relation_size(relid) AS bytes, n_live_tup AS live, n_dead_tup AS dead
			FROM pg_stat_user_tables`); err != nil {
			return nil, err
		}
		for _, t := range tables {
			if name := database.name + "." + t.Name; slices.Contains(growing, name) {
				add(unitPerOrder, name, t.Bytes/float64(orders))
				add(unitDeadPart, name, 100*t.Dead/max(t.Live+t.Dead, 1))
			} else {
				add(unitMB, name, t.Bytes/1e6)
				add(unitDead, name, t.Dead)
			}
		}
	}
	for _, service := range services {
		add(unitMB, "memory of "+service, memory(s.Part(service).PID).now/1e6)
	}
	return figures, nil
}

// Growth compares the median of a figure in the soak's middle third with that in its last third. In the first third
// the system reaches its size.
type Growth struct {
	What   string  `json:"what"`
	Middle float64 `json:"middle_third"`
	Last   float64 `json:"last_third"`
	Most   float64 `json:"at_most"` // for the last third: more is growth
}

// Grows reports whether the last third exceeds what the middle one allows.
func (g Growth) Grows() bool { return g.Last > g.Most }

func growth(samples []Sample) []Growth {
	n := len(samples)
	var all []Growth
	for _, what := range slices.Sorted(maps.Keys(samples[n-1].Figures)) {
		third := func(samples []Sample) float64 {
			values := make([]float64, len(samples))
			for i, s := range samples {
				values[i] = s.Figures[what]
			}
			return median(values)
		}
		g := Growth{What: what, Middle: third(samples[n/3 : n-n/3]), Last: third(samples[n-n/3:])}
		unit, _, _ := strings.Cut(what, ": ")
		g.Most = 1.1*g.Middle + slack[unit]
		all = append(all, g)
	}
	return all
}
