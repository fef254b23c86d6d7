package main

import (
	"strings"
	"testing"
)

// steady are samples of a system in which nothing grows but the rows of orders, with all that wanders in a healthy one.
func steady(n int) []Sample {
	samples := make([]Sample, n)
	for i := range samples {
		orders := 1_000_000 * (i + 1) / n
		wave := int64(i % 4) // as between two runs of autovacuum
		samples[i] = Sample{
			Orders: orders, Seconds: float64(10 * i), PerSecond: 4000,
			Depths: map[string]int64{"orders.outbox": 100 * wave, "payments.inbox": 300, "payments.outbox": 0},
			Tables: map[string]Table{
				"orders.outbox":     {Bytes: 2e6 + 300e3*wave, Dead: 4000 * wave},
				"orders.orders":     {Bytes: int64(orders) * 600, Live: int64(orders), Dead: int64(orders) / 80 * wave},
				"payments.balances": {Bytes: 800e3, Live: 1128, Dead: 100 * wave},
				"payments.entries":  {Bytes: int64(orders)*300 + 8192*wave, Live: 2 * int64(orders)},
			},
			RSS:      map[string]int64{"orders": 50e6 + 1e6*wave, "payments": 60e6},
			Routines: map[string]int64{"orders": 150 + wave, "payments": 120},
		}
	}
	return samples
}

func TestNothingGrows(t *testing.T) {
	all := growth(steady(24))
	if grows := verdict(all); len(grows) > 0 {
		t.Error(grows)
	}
	if len(all) != 3+4*2+2+2 { // queues; size and dead rows of each table; memory and goroutines of each service
		t.Errorf("%d figures: %v", len(all), all)
	}
}

func TestWhatGrowsIsNamed(t *testing.T) {
	for what, spoil := range map[string]func(s *Sample, done float64){
		"waiting in payments.inbox": func(s *Sample, done float64) { s.Depths["payments.inbox"] += int64(5000 * done) },
		"size of payments.balances": func(s *Sample, done float64) {
			s.Tables["payments.balances"] = Table{Bytes: int64(800e3 + 5e6*done), Live: 1128}
		},
		"dead rows of orders.outbox": func(s *Sample, done float64) {
			s.Tables["orders.outbox"] = Table{Bytes: 2e6, Dead: int64(1e6 * done)}
		},
		"size of orders.orders": func(s *Sample, done float64) { // bloat: its rows take ever more
			s.Tables["orders.orders"] = Table{Bytes: int64(float64(s.Orders) * 600 * (1 + done)), Live: int64(s.Orders)}
		},
		"dead rows of orders.orders": func(s *Sample, done float64) {
			s.Tables["orders.orders"] = Table{Bytes: int64(s.Orders) * 600, Live: int64(s.Orders),
				Dead: int64(float64(s.Orders) * done / 2)}
		},
		"memory of payments":     func(s *Sample, done float64) { s.RSS["payments"] += int64(40e6 * done) },
		"goroutines of payments": func(s *Sample, done float64) { s.Routines["payments"] += int64(200 * done) },
	} {
		samples := steady(24)
		for i := range samples {
			spoil(&samples[i], float64(i+1)/float64(len(samples)))
		}
		if grows := verdict(growth(samples)); len(grows) != 1 || !strings.HasPrefix(grows[0], what+" (") {
			t.Errorf("%s: %v", what, grows)
		}
	}
}

// What a system needs to come to its size is no growth.
func TestTheFirstThirdIsForWarmingUp(t *testing.T) {
	samples := steady(24)
	for i := range samples[:8] {
		samples[i].RSS = map[string]int64{"orders": 5e6, "payments": 5e6}
		samples[i].Routines = map[string]int64{}
	}
	if grows := verdict(growth(samples)); len(grows) > 0 {
		t.Error(grows)
	}
}
