package httpserver

import (
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are of bounded size, because all methods that HTTP does not know count as one, and routes are patterns.
type metrics struct {
	requests  *prometheus.CounterVec
	durations *prometheus.HistogramVec
}

func newMetrics(registerer prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "altyn_http_requests_total",
			Help: "Requests answered, by route pattern; code 499 is a client that left before its answer.",
		}, []string{"method", "route", "code"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "altyn_http_request_duration_seconds",
			Help:    "Time from a request's headers to the end of its answer, streams and ?wait= included.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"method", "route"}),
	}
	m.requests, m.durations = registered(registerer, m.requests), registered(registerer, m.durations)
	return m
}

// registered registers a metric, or returns the one that another router of the process has registered.
func registered[T prometheus.Collector](registerer prometheus.Registerer, metric T) T {
	var known prometheus.AlreadyRegisteredError
	switch err := registerer.Register(metric); {
	case errors.As(err, &known):
		return known.ExistingCollector.(T)
	case err != nil:
		panic(err)
	}
	return metric
}

func (m *metrics) observe(method, route string, status int, took time.Duration) {
	switch method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
	default:
		method = "other"
	}
	m.requests.WithLabelValues(method, route, strconv.Itoa(status)).Inc()
	m.durations.WithLabelValues(method, route).Observe(took.Seconds())
}
