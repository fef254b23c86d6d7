package telemetry

import (
	"errors"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/trace"

	"github.com/altyn-pay/altyn/platform/config"
)

// NewRegistry returns a registry with the figures of the Go runtime and of the process, altyn_build_info, which carries
// the service's name and what it was built from, and the process's clock.
func NewRegistry(service string) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	this := config.ThisBuild()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "altyn_build_info",
		Help: "Always 1; the labels tell what is running.",
		ConstLabels: prometheus.Labels{
			"service": service, "version": this.Version, "go_version": this.Go, "revision": this.Revision,
		},
	})
	build.Set(1)
	clock := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "altyn_clock_seconds", Help: "This process's clock, in seconds since 1970."},
		func() float64 { return float64(time.Now().UnixMicro()) / 1e6 })
	registry.MustRegister(build, clock, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// Register adds a collector, or returns the one of that name that another part of the process has added.
func Register[C prometheus.Collector](metrics prometheus.Registerer, collector C) (C, error) {
	err := metrics.Register(collector)
	if already, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if existing, ok := already.ExistingCollector.(C); ok {
			return existing, nil
		}
	}
	return collector, err
}

// Observe adds a time to a histogram, with the trace of its span as the exemplar if it is recorded.
func Observe(histogram prometheus.Observer, took time.Duration, span trace.Span) {
	with, ok := histogram.(prometheus.ExemplarObserver)
	if !ok || !span.IsRecording() {
		histogram.Observe(took.Seconds())
		return
	}
	with.ObserveWithExemplar(took.Seconds(), prometheus.Labels{"trace_id": span.SpanContext().TraceID().String()})
}

// MetricsHandler serves what is registered, for /metrics.
func MetricsHandler(registry *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		Registry: registry, MaxRequestsInFlight: 4, EnableOpenMetrics: true, // for exemplars
	})
}

// ProfileHandler serves the profiles of the Go runtime under /debug/pprof/. They reveal much, so they
// are for operators alone.
func ProfileHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	return mux
}
