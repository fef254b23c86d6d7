package main

import (
	"maps"
	"testing"
)

// steady are samples of a system in which nothing grows but the rows of orders, with all that wanders in a healthy one.
func steady(n int) []Sample {
	samples := make([]Sample, n)
	for i := range samples {
		wave := float64(i % 4) // as between two runs of autovacuum
		samples[i] = Sample{Orders: 1_000_000 * (i + 1) / n, PerSecond: 4000, Figures: map[string]float64{
			"rows waiting: orders.outbox": 100 * wave, "rows waiting: payments.inbox": 300,
			"MB: orders.outbox": 2 + 0.3*wave, "MB: payments.balances": 0.8, "MB: memory of payments": 50 + wave,
			"dead rows: orders.outbox":       4000 * wave,
			"bytes per order: orders.orders": 600 + 10*wave, "% dead: orders.orders": wave,
		}}
	}
	return samples
}

func grows(samples []Sample) []string {
	var grows []string
	for _, g := range growth(samples) {
		if g.Grows() {
			grows = append(grows, g.What)
		}
	}
	return grows
}

func TestNothingGrows(t *testing.T) {
	if grows := grows(steady(soakSamples)); len(grows) > 0 {
		t.Error(grows)
	}
}

func TestWhatGrowsIsNamed(t *testing.T) {
	for what, by := range map[string]float64{
		"rows waiting: payments.inbox": 5000, "MB: payments.balances": 20, "dead rows: orders.outbox": 200_000,
		"bytes per order: orders.orders": 600, "% dead: orders.orders": 50, "MB: memory of payments": 40,
	} {
		samples := steady(soakSamples)
		for i := range samples {
			samples[i].Figures[what] += by * float64(i+1) / soakSamples
		}
		if grows := grows(samples); len(grows) != 1 || grows[0] != what {
			t.Errorf("%s: %v", what, grows)
		}
	}
}

// What a system needs to come to its size is no growth.
func TestTheFirstThirdIsForWarmingUp(t *testing.T) {
	samples := steady(soakSamples)
	for i := range samples[:soakSamples/3] {
		samples[i].Figures = maps.Clone(samples[i].Figures)
		samples[i].Figures["MB: memory of payments"] = 5
	}
	if grows := grows(samples); len(grows) > 0 {
		t.Error(grows)
	}
}
