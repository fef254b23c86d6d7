package httpserver

import (
	"context"
	"net/http"
	"strconv"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/altyn-pay/altyn/platform/telemetry"
)

var ofServer = trace.WithSpanKind(trace.SpanKindServer)

// isProbe tells whether a route, or path, is asked every few seconds.
func isProbe(route string) bool {
	return route == "/healthz" || route == "/readyz" || route == "/metrics"
}

// trace gives the request's context a trace, and begins the request's span where spans are made.
func (x *exchange) trace(ctx context.Context, r *http.Request) context.Context {
	ctx = telemetry.Extract(ctx, r.Header)
	if x.observer.Tracer.On() && !isProbe(r.URL.Path) {
		if x.observer.Strangers {
			ctx = telemetry.FromStranger(ctx)
		}
		ctx, _ = x.observer.Tracer.Start(ctx, r.Method, ofServer)
	}
	ctx = telemetry.WithTrace(ctx)
	x.span = trace.SpanFromContext(ctx)
	return ctx
}

// endSpan ends the request's span, with what is known of the request by then.
func (x *exchange) endSpan(r *http.Request, route string, status int) {
	if !x.span.IsRecording() {
		return
	}
	method, scheme := r.Method, "http"
	if !isMethod(method) {
		method = "_OTHER"
	}
	if r.TLS != nil {
		scheme = "https"
	}
	x.span.SetName(method + " " + route)
	x.span.SetAttributes(semconv.HTTPRequestMethodKey.String(method), semconv.HTTPRoute(route),
		semconv.URLPath(r.URL.Path), semconv.URLScheme(scheme), semconv.HTTPResponseStatusCode(status),
		semconv.ClientAddress(ClientAddress(r)))
	if status >= http.StatusInternalServerError {
		x.span.SetAttributes(semconv.ErrorTypeKey.String(strconv.Itoa(status)))
		telemetry.Fail(x.span, x.err)
	}
	x.span.End()
}
