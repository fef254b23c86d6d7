package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestLoggerNamesTheService(t *testing.T) {
	var out bytes.Buffer
	logger := NewLogger(&out, Config{LogLevel: slog.LevelWarn}, "orders")
	logger.Info("hidden")
	logger.Warn("shown", "n", 1)
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil || line["service"] != "orders" || line["msg"] != "shown" {
		t.Errorf("%v: %s", err, out.String())
	}
	out.Reset()
	NewLogger(&out, Config{LogFormat: "text"}, "orders").Info("shown")
	if !strings.Contains(out.String(), "service=orders") {
		t.Errorf("text: %s", out.String())
	}
}

func TestMetricsHandler(t *testing.T) {
	recorder := httptest.NewRecorder()
	MetricsHandler(NewRegistry("orders")).ServeHTTP(recorder, httptest.NewRequest("GET", "/metrics", nil))
	for _, name := range []string{`altyn_build_info{`, `service="orders"`, "go_goroutines", "process_"} {
		if !strings.Contains(recorder.Body.String(), name) {
			t.Errorf("%s is missing", name)
		}
	}
}

func probe(handler http.Handler) (int, string) {
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequest("GET", "/readyz", nil))
	return recorder.Code, strings.TrimSpace(recorder.Body.String())
}

func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		health := NewHealth(slog.New(slog.NewTextHandler(&log, nil)))
		var failure error
		var runs int
		health.Add("database", func(context.Context) error { runs++; return failure })
		health.Add("broker", func(context.Context) error { return nil })

		expect := func(code int, body string) {
			t.Helper()
			if gotCode, gotBody := probe(health.Ready()); gotCode != code || gotBody != body {
				t.Errorf("got %d %s; want %d %s", gotCode, gotBody, code, body)
			}
			if ready := health.IsReady(t.Context()); ready != (code == 200) {
				t.Errorf("ready: %v, but the probe answers %d", ready, code)
			}
			<-time.After(checkEvery)
		}
		expect(200, `{"status":"ok","checks":{"broker":"ok","database":"ok"}}`)
		failure = errors.New("password of postgres is wrong")
		expect(503, `{"status":"unavailable","checks":{"broker":"ok","database":"failing"}}`)
		expect(503, `{"status":"unavailable","checks":{"broker":"ok","database":"failing"}}`)
		if n := strings.Count(log.String(), "password of postgres"); n != 1 {
			t.Errorf("the reason was logged %d times: %s", n, log.String())
		}
		failure = nil
		expect(200, `{"status":"ok","checks":{"broker":"ok","database":"ok"}}`)
		if !strings.Contains(log.String(), "a check succeeds again") {
			t.Errorf("the recovery was not logged: %s", log.String())
		}

		before := runs
		for range 100 {
			probe(health.Ready())
		}
		if runs != before+1 {
			t.Errorf("100 probes ran the check %d times", runs-before)
		}
		if code, body := probe(health.Live()); code != 200 || body != `{"status":"ok"}` {
			t.Errorf("live: %d %s", code, body)
		}
	})
}

// What the process can do without is shown and told of, and leaves it ready.
func TestWhatIsOnlyShownLeavesTheProcessReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		health := NewHealth(slog.New(slog.NewTextHandler(&log, nil)))
		var database, broker error
		health.Add("database", func(context.Context) error { return database })
		health.Show("broker", func(context.Context) error { return broker })
		metrics := prometheus.NewRegistry()
		metrics.MustRegister(health)
		away := errors.New("connection refused")
		for _, test := range []struct {
			database, broker error
			code             int
			body             string
			metrics          [2]int
		}{
			{nil, nil, 200, `{"status":"ok","checks":{"broker":"ok","database":"ok"}}`, [2]int{1, 1}},
			{nil, away, 200, `{"status":"ok","checks":{"broker":"failing","database":"ok"}}`, [2]int{0, 1}},
			{away, away, 503, `{"status":"unavailable","checks":{"broker":"failing","database":"failing"}}`, [2]int{0, 0}},
			{away, nil, 503, `{"status":"unavailable","checks":{"broker":"ok","database":"failing"}}`, [2]int{1, 0}},
			{nil, nil, 200, `{"status":"ok","checks":{"broker":"ok","database":"ok"}}`, [2]int{1, 1}},
		} {
			database, broker = test.database, test.broker
			<-time.After(checkEvery)
			if code, body := probe(health.Ready()); code != test.code || body != test.body {
				t.Errorf("got %d %s; want %d %s", code, body, test.code, test.body)
			}
			want := fmt.Sprintf("# HELP altyn_check_ok Whether a check of /readyz succeeds: 1 or 0.\n# TYPE altyn_check_ok "+
				"gauge\n"+
				"altyn_check_ok{check=\"broker\"} %d\naltyn_check_ok{check=\"database\"} %d\n", test.metrics[0], test.metrics[1])
			if err := testutil.GatherAndCompare(metrics, strings.NewReader(want)); err != nil {
				t.Error(err)
			}
		}
		if n := strings.Count(log.String(), "goes on without"); n != 1 || strings.Count(log.String(), "not ready") != 1 {
			t.Errorf("logged %s", log.String())
		}
	})
}

func TestHealthDoesNotWaitForACheckThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		health := NewHealth(slog.New(slog.DiscardHandler))
		var running atomic.Int32
		release := make(chan struct{})
		health.Add("hangs", func(context.Context) error { running.Add(1); <-release; return nil })
		start := time.Now()
		for range 3 {
			if code, _ := probe(health.Ready()); code != 503 {
				t.Errorf("code %d", code)
			}
			<-time.After(checkEvery)
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("three probes took %s", took)
		}
		if n := running.Load(); n != 1 {
			t.Errorf("%d runs of the check beside each other", n)
		}
		close(release)
	})
}
