package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// checkTimeout bounds one check.
	checkTimeout = time.Second
	// checkEvery is how long a result of the checks is reused, so that a flood of probes costs the database nothing.
	checkEvery = 100 * time.Millisecond
)

// Health answers whether a process is up (Live) and whether it can do its work now (Ready).
type Health struct {
	logger *slog.Logger
	checks []*check

	mu     sync.Mutex // held during a round of checks; probes that come meanwhile share its result
	round  time.Time
	status map[string]string
	ready  bool
}

const statusOK = "ok"

type check struct {
	name    string
	needed  bool // the process is not ready without it
	run     func(context.Context) error
	running chan struct{} // one slot, so that a check that ignores its deadline never runs twice at once
	failing bool
}

// NewHealth returns a Health without checks. It logs when a check begins to fail, with the reason, and when it
// recovers. Probes see no reasons.
func NewHealth(logger *slog.Logger) *Health { return &Health{logger: logger} }

// Add adds a check that must succeed for the process to be ready. It gets one second; its name is public. All checks
// must be added before the first probe.
func (h *Health) Add(name string, run func(ctx context.Context) error) {
	h.checks = append(h.checks, &check{name: name, needed: true, run: run, running: make(chan struct{}, 1)})
}

// Show adds a check of something that the process can do without for a while. Ready shows it and does not depend on it.
func (h *Health) Show(name string, run func(ctx context.Context) error) {
	h.checks = append(h.checks, &check{name: name, run: run, running: make(chan struct{}, 1)})
}

var checkDesc = prometheus.NewDesc("altyn_check_ok",
	"Whether a check of /readyz succeeds: 1 or 0.", []string{"check"}, nil)

// Describe implements prometheus.Collector.
func (h *Health) Describe(descs chan<- *prometheus.Desc) { descs <- checkDesc }

// Collect implements prometheus.Collector.
func (h *Health) Collect(metrics chan<- prometheus.Metric) {
	_, status := h.check(context.Background())
	for name, text := range status {
		var ok float64
		if text == statusOK {
			ok = 1
		}
		metrics <- prometheus.MustNewConstMetric(checkDesc, prometheus.GaugeValue, ok, name)
	}
}

// Live is /healthz: 200 as long as the process answers at all.
func (h *Health) Live() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { writeHealth(w, true, nil) })
}

// Ready is /readyz. It runs the checks in parallel and shows the result of each. It answers 200, or 503 when one that
// is needed fails.
func (h *Health) Ready() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ready, status := h.check(r.Context())
		writeHealth(w, ready, status)
	})
}

// IsReady is Ready for other protocols.
func (h *Health) IsReady(ctx context.Context) bool {
	ready, _ := h.check(ctx)
	return ready
}

func (h *Health) check(ctx context.Context) (ready bool, status map[string]string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.status != nil && time.Since(h.round) < checkEvery {
		return h.ready, h.status
	}

	// Other probes share the result, so it must not depend on the one that happens to ask.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkTimeout)
	defer cancel()
	errs := make([]error, len(h.checks))
	var wg sync.WaitGroup
	for i, c := range h.checks {
		wg.Go(func() { errs[i] = c.bounded(ctx) })
	}
	wg.Wait()

	h.ready, h.status = true, make(map[string]string, len(h.checks))
	for i, c := range h.checks {
		h.status[c.name] = statusOK
		if errs[i] != nil {
			h.ready, h.status[c.name] = h.ready && !c.needed, "failing"
		}
		c.log(h.logger, errs[i])
	}
	h.round = time.Now()
	return h.ready, h.status
}

// bounded runs the check until ctx ends, even if the check ignores that.
func (c *check) bounded(ctx context.Context) error {
	select {
	case c.running <- struct{}{}:
	default:
		return errors.New("its last run has not ended")
	}
	done := make(chan error, 1)
	go func() {
		err := c.run(ctx)
		<-c.running
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *check) log(logger *slog.Logger, err error) {
	switch failing := err != nil; {
	case failing && !c.failing && c.needed:
		logger.Warn("not ready", "check", c.name, "error", err)
	case failing && !c.failing:
		logger.Warn("a check fails; the service goes on without", "check", c.name, "error", err)
	case !failing && c.failing:
		logger.Info("a check succeeds again", "check", c.name)
	}
	c.failing = err != nil
}

func writeHealth(w http.ResponseWriter, ok bool, checks map[string]string) {
	answer := struct {
		Status string            `json:"status"`
		Checks map[string]string `json:"checks,omitempty"`
	}{"ok", checks}
	code := http.StatusOK
	if !ok {
		answer.Status, code = "unavailable", http.StatusServiceUnavailable
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(answer) // A probe that is gone misses nothing.
}
