package main

import (
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
