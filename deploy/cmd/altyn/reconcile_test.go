package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMetricsOfAReconciliation(t *testing.T) {
	file := filepath.Join(t.TempDir(), "altyn.prom")
	for _, wrong := range []string{"2", "0"} { // a later one replaces it
		if err := writeMetrics(file, int(wrong[0]-'0'), time.Unix(1700000000, 0)); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(text), "\naltyn_reconcile_wrong_orders "+wrong+"\n") ||
			!strings.Contains(string(text), "\naltyn_reconcile_timestamp_seconds 1.7e+09\n") {
			t.Errorf("%v: %s", err, text)
		}
	}
}

// With --every it goes on, also where it could not look, until it is to end.
func TestReconcilingAgainAndAgain(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	away := Reconcile{Orders: "http://127.0.0.1:1", Payments: "http://127.0.0.1:1", Every: time.Millisecond}
	var looked int
	if err := repeatReconcile(ctx, writes(func(text string) {
		if !strings.HasPrefix(text, "it could not look: orders: ") {
			t.Errorf("it said %q", text)
		}
		if looked++; looked == 2 {
			cancel()
		}
	}), away); err != nil || looked != 2 {
		t.Errorf("it has looked %d times: %v", looked, err)
	}
}

type writes func(string)

func (w writes) Write(text []byte) (int, error) {
	w(string(text))
	return len(text), nil
}
