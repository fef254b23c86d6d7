// Package edge is what clients meet: one address for the API of both services, with their documentation beside it. It routes
// by the path's prefix and keeps no state, so any number of gateways can stand side by side.
//
// What a service answers passes through as it is, its own 404 and 405 too. The gateway answers by itself, with
// application/problem+json, only where no service did:
//
//	404  not_found             no service has this path (operators' paths such as /admin have none here)
//	405  method_not_allowed    a method that no path of the API serves
//	408  request_timeout       the body did not arrive within 15 s
//	413  body_too_large        the body is larger than GATEWAY_MAX_BODY
//	502  upstream_unavailable  no connection to the service could be made, or it broke off
//	503  unavailable           all addresses of the service were unreachable a moment ago; nothing was sent
//	504  upstream_timeout      the service did not answer within GATEWAY_UPSTREAM_TIMEOUT
package edge

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/gateway/internal/upstream"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/swagger"
	"github.com/altyn-pay/altyn/platform/telemetry"
)

// The prefixes of the API and who serves them.
var (
	ordersPaths   = []string{"/api/v1/orders"}
	streamPath    = "/api/v1/orders/{id}/stream" // server-sent events
	paymentsPaths = []string{
		"/api/v1/accounts", "/api/v1/holds", "/api/v1/transfers", "/api/v1/operations", "/api/v1/currencies", "/api/v1/payments",
	}
	// methods are those that any path of the API serves; OPTIONS is what browsers ask with.
	methods = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodOptions}
)

// maxDocument bounds a service's specification.
const maxDocument = 8 << 20

// New returns the gateway's handler and a function that closes its idle connections to the services.
func New(cfg Config, logger *slog.Logger, registerer prometheus.Registerer) (handler http.Handler, closeIdle func(), err error) {
	orders, err := upstream.New("orders", cfg.Orders, logger)
	if err != nil {
		return nil, nil, fmt.Errorf("orders: %w", err)
	}
	payments, err := upstream.New("payments", cfg.Payments, logger)
	if err != nil {
		return nil, nil, fmt.Errorf("payments: %w", err)
	}

	router := httpserver.NewRouter(httpserver.Options{Logger: logger, Registerer: registerer, Classify: problemOf, Config: cfg.HTTP})
	route(router, ordersPaths, newProxy(cfg, orders))
	router.Method(http.MethodGet, streamPath, newStreams(cfg, orders.Streams()))
	route(router, paymentsPaths, newProxy(cfg, payments))

	health := telemetry.NewHealth(logger)
	health.Add("orders", orders.Ready)
	health.Add("payments", payments.Ready)
	router.Get("/healthz", health.Live().ServeHTTP)
	router.Get("/readyz", health.Ready().ServeHTTP)

	router.Get("/", http.RedirectHandler("/docs/", http.StatusFound).ServeHTTP)
	router.Get("/docs", http.RedirectHandler("/docs/", http.StatusMovedPermanently).ServeHTTP)
	router.Get("/docs/orders.json", document(orders))
	router.Get("/docs/payments.json", document(payments))
	router.Get("/docs/*", swagger.UI(
		swagger.Spec{Name: "orders", URL: "orders.json"}, swagger.Spec{Name: "payments", URL: "payments.json"}).ServeHTTP)

	return router, func() { orders.Close(); payments.Close() }, nil
}

func route(router chi.Router, prefixes []string, handler http.Handler) {
	for _, prefix := range prefixes {
		for _, method := range methods {
			router.Method(method, prefix, handler)
			router.Method(method, prefix+"/*", handler)
		}
	}
}

// document passes on a service's specification, made relative so that a browser's "Try it out" comes to the gateway.
func document(service *upstream.Upstream) http.HandlerFunc {
	return httpserver.Handle(func(w http.ResponseWriter, r *http.Request) error {
		ctx, end := withTimeout(r.Context(), documentTimeout)
		defer end()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "/docs/doc.json", nil)
		if err != nil {
			return err
		}
		response, err := service.RoundTrip(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return badGateway(fmt.Errorf("/docs/doc.json answers %s", response.Status))
		}
		body, err := io.ReadAll(io.LimitReader(response.Body, maxDocument))
		if err != nil {
			return err
		}
		relative, err := swagger.Relative(body)
		if err != nil {
			return badGateway(err)
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-cache")
		_, _ = io.Copy(w, bytes.NewReader(relative)) // A client that is gone misses nothing.
		return nil
	})
}

// problemOf is the one table from what can go wrong between the gateway and a service to what the client sees.
func problemOf(err error) *httpserver.Problem {
	var body *bodyError
	switch {
	case errors.As(err, &body):
		return httpserver.BodyProblem(body.error)
	case errors.Is(err, errUpstreamTimeout):
		return httpserver.NewProblem(http.StatusGatewayTimeout, httpserver.CodeUpstreamTimeout,
			"the service did not answer in time; what it was asked for may still happen").Because(err)
	case errors.Is(err, upstream.ErrNoAddress):
		return httpserver.Unavailable(err)
	}
	return badGateway(err)
}

func badGateway(cause error) *httpserver.Problem {
	return httpserver.NewProblem(http.StatusBadGateway, httpserver.CodeUpstreamUnavailable,
		"the service could not be reached or broke off its answer; what it was asked for may have happened").Because(cause)
}
