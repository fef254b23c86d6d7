package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   Spread
	}{
		{nil, Spread{}},
		{[]float64{2}, Spread{2, 2, 2}},
		{[]float64{3, 1, 2}, Spread{2, 1, 3}},
		{[]float64{4, 1, 2, 3}, Spread{2.5, 1, 4}},
	} {
		if got := spread(c.values); got != c.want {
			t.Errorf("spread of %v is %v, not %v", c.values, got, c.want)
		}
	}
	values := []float64{3, 1, 2}
	if median(values); values[0] != 3 {
		t.Error("median has changed its argument")
	}
}

// measured are the results of rounds in which every workload reached so many times the yardstick, which doubled from
// round to round, as when the machine becomes faster.
func measured(ratios map[string]float64, latencies ...Latency) []Result {
	results := make([]Result, len(workloads))
	for i, w := range workloads {
		r := &results[i]
		r.Name, r.Title = w.name, w.title
		tps := 1000.0
		for _, latency := range latencies {
			m := Measurement{Operations: 1000, PerSecond: ratios[w.name] * tps, Yardstick: tps, Ratio: ratios[w.name],
				WAL: 3000, CPU: map[string]float64{"orders": 100, benchmarkName: 40}}
			if w.goal.times == 0 {
				m.Yardstick, m.Ratio, m.Latency = 0, 0, &latency
			}
			r.Rounds = append(r.Rounds, m)
			tps *= 2
		}
		r.judge(w.goal, w.goal.String())
	}
	return results
}

var goodRatios = map[string]float64{"orders": 1.1, "orders-batch": 2.5, "billing": 2, "hot": 1.9, "billing-batch": 4.9,
	"commands": 5.5}

// goodReport has everything in it. All goals are reached but that of billing-batch.
func goodReport() Report {
	r := Report{
		At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Cores: 2, Postgres: "18.4", Kafka: "Kafka <&> Co", Duration: "10s",
		Clients: 64, Accounts: 1000,
		Audits:  map[string]string{"the empty database": "the books are right"},
		PeakRSS: map[string]float64{"orders": 50e6, "payments": 99e6},
	}
	r.Results = measured(goodRatios, Latency{P50: 9, P99: 30, Max: 40},
		Latency{P50: 9, P99: 60, Max: 70, Late: 3, Latest: 4},
		Latency{P50: 11, P99: 40, Max: 50})
	r.Stored = &Stored{Orders: 2_000_000, Bytes: 16e9}
	for _, result := range r.Results {
		if result.Name != "latency" {
			result.judge(goal{times: storedTimes}, atLeast(storedTimes, "empty"))
			r.Stored.Results = append(r.Stored.Results, result)
		}
	}
	r.Space = &Space{Orders: 100_000, PerOrder: 1100, Reached: true, Parts: []Part{{"orders.orders", 1100, 0.1}},
		Archive: []Part{{"payments.entries", 500, 0}}}
	samples := steady(soakSamples)
	r.Soak = &Soak{Orders: 1_000_000, PerSecond: 4321, Samples: samples, Growth: growth(samples), Reached: true}
	return r
}

func TestJudgement(t *testing.T) {
	for _, result := range goodReport().Results {
		if want := result.Name != "billing-batch"; result.Reached != want {
			t.Errorf("%s, %v: reached is %v", result.Name, result.Ratio, result.Reached)
		}
	}
	// The median of the rounds counts.
	for _, c := range []struct {
		latency Latency
		reached bool
	}{{Latency{P50: 10, P99: 50}, true}, {Latency{P50: 10.1, P99: 50}, false}, {Latency{P50: 10, P99: 50.1}, false}} {
		all := measured(goodRatios, c.latency)
		if got := all[len(all)-1]; got.Name != "latency" || got.Reached != c.reached {
			t.Errorf("%+v: %s reached is %v", c.latency, got.Name, got.Reached)
		}
	}
}

func TestPrint(t *testing.T) {
	var out bytes.Buffer
	goodReport().print(&out)
	for _, want := range []string{
		"1.10 (1.10–1.10) ×", "≥ 1.0 × pgbench", "2000/s (1000–4000)", "9.0 / 40.0 ms", "≤ 10 / 50 ms",
		"orders, 2000000 stored", "≥ 0.9 × empty", "1000000 orders in one go", "99 MB",
		"In round 2, 3 requests were sent later",
		"Audit of the empty database: the books are right", "memory of payments", "µs",
		"≤ 1200", "  orders.orders\n", "  payments.entries\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("there is no %q", want)
		}
	}
	if n := strings.Count(out.String(), "missed"); n != 1 {
		t.Errorf("%d goals are missed", n)
	}
	if t.Failed() {
		t.Log(out.String())
	}
	out.Reset()
	Report{}.print(&out) // of nothing
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "new", "latest.json")
	want := goodReport()
	if err := want.write(out); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var got Report
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if got.Results[0].Ratio != want.Results[0].Ratio || got.Soak.Samples[23].Orders != 1_000_000 ||
		got.Results[6].Rounds[2].Latency.Max != 50 {
		t.Errorf("%s", text)
	}
}
