// Package edge is what clients meet: one address for the API of both services, with its documentation. It routes by
// the path's prefix and keeps no state, so any number of gateways can stand side by side.
//
// What a service answers passes through as it is, its own 404 and 405 too. The gateway answers by itself, with
// application/problem+json, only where no service did:
//
//	400  validation_failed     Connection names a header that is for the service
//	401  unauthenticated       there is no token, or it is not valid (AUTH=jwt)
//	403  cross_origin          a page of another site asks that ALLOWED_ORIGINS does not name
//	404  not_found             no service has this path (operators' paths such as /admin have none here)
//	408  request_timeout       the body did not arrive within 15 s
//	413  body_too_large        the body is larger than GATEWAY_MAX_BODY
//	421  misdirected_request   the Host is neither loopback nor in ALLOWED_HOSTS
//	429  rate_limited          the tenant, the subject or the address takes too much (LIMIT_…)
//	502  upstream_unavailable  no connection to the service could be made, or it broke off
//	503  unavailable           all addresses of the service were unreachable a moment ago; nothing was sent
//	503  overloaded            there is no room for the body (HTTP_BODY_MEMORY)
//	504  upstream_timeout      the service did not answer within GATEWAY_UPSTREAM_TIMEOUT
package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/gateway/internal/upstream"
	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/identity/bearer"
	"github.com/altyn-pay/altyn/platform/swagger"
	"github.com/altyn-pay/altyn/platform/telemetry"
	"github.com/altyn-pay/altyn/platform/tlsfiles"
)

// The prefixes of the API and who serves them.
var (
	ordersPaths   = []string{"/api/v1/orders"}
	streamPath    = "/api/v1/orders/{id}/stream"  // server-sent events
	explainPath   = "/api/v1/orders/{id}/explain" // of both services
	paymentsPaths = []string{
		"/api/v1/accounts", "/api/v1/holds", "/api/v1/transfers",
		"/api/v1/operations", "/api/v1/currencies", "/api/v1/payments",
	}
)

// Gateway is the handler of everything that the gateway serves.
type Gateway struct {
	http.Handler
	Admin    http.Handler // the operators' plane
	services []*upstream.Upstream
	tokens   *bearer.Verifier
}

// Watch keeps looking which instances of the services are ready, and fetches the keys of the tokens' issuers, until ctx
// ends. Without it all instances get requests, and no token is valid.
func (g *Gateway) Watch(ctx context.Context) {
	var watches sync.WaitGroup
	for _, service := range g.services {
		watches.Go(func() { service.Watch(ctx) })
	}
	watches.Go(func() { _ = g.tokens.Run(ctx) }) // it has no error but ctx's end
	watches.Wait()
}

// Close ends the idle connections to the services.
func (g *Gateway) Close() {
	for _, service := range g.services {
		service.Close()
	}
}

// New returns the gateway.
func New(cfg Config, logger *slog.Logger, registry *prometheus.Registry, tracer *telemetry.Tracer) (
	*Gateway, error) {
	trust, err := tlsfiles.Open(cfg.upstreamTLS(), logger)
	if err != nil {
		return nil, err
	}
	orders, err := upstream.New("orders", cfg.Orders, trust, logger)
	if err != nil {
		return nil, fmt.Errorf("orders: %w", err)
	}
	payments, err := upstream.New("payments", cfg.Payments, trust, logger)
	if err != nil {
		return nil, fmt.Errorf("payments: %w", err)
	}

	tokens := bearer.New(cfg.Auth, logger)
	options := httpserver.Options{
		Logger: logger, Registerer: registry, Classify: problemOf, Authenticate: tokens.Authenticate,
		Tokens: tokens.On(), Tracer: tracer, Strangers: !cfg.TrustSampling, Config: cfg.HTTP,
	}
	router := httpserver.NewRouter(options)
	// The services judge what a token allows.
	streamOrders := &streams{proxy: newProxy(cfg, orders, tracer)}
	streamPayments := &streams{proxy: newProxy(cfg, payments, tracer)}
	toOrders := httpserver.Needs(identity.Anyone, streamOrders.exports())
	toPayments := httpserver.Needs(identity.Anyone, streamPayments.exports())
	route(router, ordersPaths, toOrders)
	router.Method(http.MethodGet, streamPath, httpserver.Needs(identity.Anyone, streamOrders))
	router.Method(http.MethodGet, explainPath,
		httpserver.Needs(identity.Anyone, &explainer{orders, payments, min(explainTimeout, cfg.UpstreamTimeout)}))
	route(router, paymentsPaths, toPayments)
	// The service knows what a path of its serves, so a method that chi does not know goes there too.
	others := router.(*chi.Mux).MethodNotAllowedHandler()
	router.MethodNotAllowed(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case under(r.URL.Path, ordersPaths):
			toOrders.ServeHTTP(w, r)
		case under(r.URL.Path, paymentsPaths):
			toPayments.ServeHTTP(w, r)
		default:
			others(w, r)
		}
	})

	if err := tlsfiles.WatchExpiry(registry, map[string]tlsfiles.Files{
		"server":   {Cert: cfg.HTTP.TLS.Cert, Key: cfg.HTTP.TLS.Key},
		"upstream": {Cert: cfg.UpstreamCert, Key: cfg.UpstreamKey},
	}); err != nil {
		return nil, err
	}
	health := telemetry.NewHealth(logger)
	health.Add("orders", orders.Ready)
	health.Add("payments", payments.Ready)
	if tokens.On() {
		health.Add("tokens", tokens.Ready)
		health.Show("issuer", tokens.Fresh)
	}
	registry.MustRegister(health)
	router.Get("/healthz", health.Live().ServeHTTP)
	router.Get("/readyz", health.Ready().ServeHTTP)

	router.Get("/", http.RedirectHandler("/docs/", http.StatusFound).ServeHTTP)
	router.Get("/docs", http.RedirectHandler("/docs/", http.StatusMovedPermanently).ServeHTTP)
	ordersDocument, paymentsDocument := source{"orders", orders, ordersPaths}, source{"payments", payments, paymentsPaths}
	router.Get("/docs/orders.json", specification(documentAge, ordersDocument))
	router.Get("/docs/payments.json", specification(documentAge, paymentsDocument))
	router.Get("/docs/doc.json", specification(documentAge, ordersDocument, paymentsDocument))
	router.Get("/docs/*", swagger.UI(
		swagger.Spec{Name: "orders", URL: "orders.json"}, swagger.Spec{Name: "payments", URL: "payments.json"}).ServeHTTP)

	return &Gateway{
		Handler: router, Admin: httpserver.NewPlane(options, registry, health),
		services: []*upstream.Upstream{orders, payments}, tokens: tokens,
	}, nil
}

func route(router chi.Router, prefixes []string, handler http.Handler) {
	for _, prefix := range prefixes {
		router.Handle(prefix, handler)
		router.Handle(prefix+"/*", handler)
	}
}

// under reports whether a path lies under one of the prefixes.
func under(path string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(prefix string) bool {
		rest, ok := strings.CutPrefix(path, prefix)
		return ok && (rest == "" || rest[0] == '/')
	})
}

// Config are the gateway's settings.
type Config struct {
	Addr            string        `env:"GATEWAY_ADDR" default:":8000" help:"address of the API and its documentation"`
	AdminAddr       string        `env:"GATEWAY_ADMIN_ADDR" default:":8009" help:"address of the operators' plane of the gateway: /metrics, profiles"`
	Orders          []string      `env:"ORDERS_URL" default:"http://127.0.0.1:8080" help:"base URLs of the instances of orders, separated by commas"`
	Payments        []string      `env:"PAYMENTS_URL" default:"http://127.0.0.1:8081" help:"base URLs of the instances of payments, separated by commas"`
	UpstreamCA      string        `env:"GATEWAY_UPSTREAM_CA_FILE" help:"PEM file of the authorities of the services' certificates (default: the system's)"`
	UpstreamCert    string        `env:"GATEWAY_UPSTREAM_CERT_FILE" help:"PEM file of the certificate by which services know the gateway"`
	UpstreamKey     string        `env:"GATEWAY_UPSTREAM_KEY_FILE" help:"PEM file of its key"`
	UpstreamTimeout time.Duration `env:"GATEWAY_UPSTREAM_TIMEOUT" default:"35s" help:"time a service has to answer, streams of events and exports apart; longer than ?wait= may ask for"`
	MaxBody         config.Bytes  `env:"GATEWAY_MAX_BODY" default:"1MiB" help:"largest body of a request"`
	TrustSampling   bool          `env:"GATEWAY_TRUST_SAMPLING" default:"false" help:"whether the flag of a client's traceparent decides, as parent, whether its request is traced; else OTEL_TRACES_SAMPLER decides as about a new trace"`
	HTTP            httpserver.Config
	Auth            bearer.Config
	Telemetry       telemetry.Config
	Traces          telemetry.Traces
}

// Validate checks the URLs and bounds.
func (c Config) Validate() error {
	errs := []error{c.Traces.Check(c.HTTP.Open), c.HTTP.CheckAddrs(c.Auth.On(),
		map[string]string{"GATEWAY_ADDR": c.Addr, "GATEWAY_ADMIN_ADDR": c.AdminAddr})}
	if err := upstream.Check(c.Orders, c.HTTP.Open); err != nil {
		errs = append(errs, config.Invalid("ORDERS_URL", "%v", err))
	}
	if err := upstream.Check(c.Payments, c.HTTP.Open); err != nil {
		errs = append(errs, config.Invalid("PAYMENTS_URL", "%v", err))
	}
	if c.UpstreamTimeout <= 0 || c.UpstreamTimeout > time.Hour {
		errs = append(errs, config.Invalid("GATEWAY_UPSTREAM_TIMEOUT", "must be more than 0s and at most 1h"))
	}
	errs = append(errs, c.upstreamTLS().Check(tlsfiles.Files{Cert: "GATEWAY_UPSTREAM_CERT_FILE",
		Key: "GATEWAY_UPSTREAM_KEY_FILE", CA: "GATEWAY_UPSTREAM_CA_FILE"}))
	return errors.Join(errs...)
}

func (c Config) upstreamTLS() tlsfiles.Files {
	return tlsfiles.Files{Cert: c.UpstreamCert, Key: c.UpstreamKey, CA: c.UpstreamCA}
}
