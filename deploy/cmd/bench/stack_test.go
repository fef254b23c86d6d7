package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/testkit/localkafka"
)

func TestMain(m *testing.M) {
	localkafka.Child()
	os.Exit(m.Run())
}

func TestWorkloads(t *testing.T) {
	binaries := filepath.Join(t.TempDir(), "programs")
	if err := stack.Build(t.Context(), binaries); err != nil {
		t.Fatal(err)
	}
	s, err := start(t.Context(), true, nil, stack.Options{Binaries: binaries, Postgres: stack.Postgres{NoSync: true},
		Kafka: stack.Kafka{Kind: localkafka.Embedded}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	s.rate = openRate
	if err := s.open(t.Context(), 20); err != nil {
		t.Fatal(err)
	}
	if err := s.store(t.Context(), 2*batchOf+1); err != nil {
		t.Fatal(err)
	}
	if n, err := s.lastOrder(t.Context()); err != nil || n < 2*batchOf+1 {
		t.Errorf("%d orders are stored: %v", n, err)
	}
	for _, w := range workloads {
		m, err := s.measure(t.Context(), w, 100*time.Millisecond)
		if err != nil {
			t.Fatalf("%s: %v", w.name, err)
		}
		if m.Operations == 0 || m.PerSecond <= 0 || m.WAL <= 0 || w.goal.times == 0 && m.Latency.P50 <= 0 {
			t.Errorf("%s: %+v", w.name, m)
		}
	}
	b := bench{settings: settings{Soak: 20 * soakSamples}}
	if err := b.soak(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	soak := b.report.Soak
	last := soak.Samples[len(soak.Samples)-1]
	if len(soak.Samples) != soakSamples || last.Orders != b.Soak || last.Figures["MB: payments.balances"] == 0 {
		t.Errorf("%d samples, the last: %+v", len(soak.Samples), last)
	}
	for _, name := range growing {
		if _, ok := last.Figures[unitPerOrder+": "+name]; !ok {
			t.Errorf("there is no table %s", name)
		}
	}
	if text, err := s.audit(t.Context()); err != nil {
		t.Error(err)
	} else {
		t.Log(text)
	}
}

// The loud tenant gets its share and no more, and the others all of theirs.
func TestFairness(t *testing.T) {
	b := bench{settings: settings{Kafka: localkafka.Embedded, Duration: time.Second, Repeats: 1},
		binaries: filepath.Join(t.TempDir(), "programs"),
		report:   Report{Audits: map[string]string{}, PeakRSS: map[string]float64{}}}
	if err := stack.Build(t.Context(), b.binaries); err != nil {
		t.Fatal(err)
	}
	if err := b.on(t.Context(), fairnessName, b.fairness, fairLimits...); err != nil {
		t.Fatal(err)
	}
	f := b.report.Fairness
	sent := int64((saved + b.Duration).Seconds()) * loudTimes * share
	if f.Accepted < share || f.Refused == 0 || f.Accepted+f.Refused != sent || f.Alone.P99 <= 0 ||
		f.Beside.P99 <= 0 || f.Ratio.Median <= 0 {
		t.Errorf("%+v", f)
	}
	t.Logf("%+v: %s", f, b.report.Audits[fairnessName])
}
