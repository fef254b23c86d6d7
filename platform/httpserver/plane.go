package httpserver

import (
	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/telemetry"
)

// NewPlane returns the router of a process's operators' plane, which has an address of its own. It has what every
// process shows to those who run it: /metrics, /version and the profiles of the Go runtime under /debug/pprof/, which
// need the scope operator, and /healthz and /readyz, which need nothing. A profile may take as long as its client asks
// for: package net/http/pprof adds that to the server's WriteTimeout. Pages of other sites cannot call it, not even
// those that may call the API.
func NewPlane(options Options, registry *prometheus.Registry, health *telemetry.Health) chi.Router {
	options.Registerer, options.Config.AllowedOrigins = registry, nil
	router := NewRouter(options)
	Mount(router, PlaneRoutes(registry, health)...)
	return router
}

// PlaneRoutes are the routes of every operators' plane.
func PlaneRoutes(registry *prometheus.Registry, health *telemetry.Health) []Route {
	profiles := telemetry.ProfileHandler()
	return []Route{
		NewRoute("GET", "/healthz", identity.Public, health.Live()),
		NewRoute("GET", "/readyz", identity.Public, health.Ready()),
		NewRoute("GET", "/version", identity.Operator, config.ThisBuild()),
		NewRoute("GET", "/metrics", identity.Operator, telemetry.MetricsHandler(registry)),
		NewRoute("GET", "/debug/pprof/*", identity.Operator, profiles),
		NewRoute("POST", "/debug/pprof/symbol", identity.Operator, profiles),
	}
}
