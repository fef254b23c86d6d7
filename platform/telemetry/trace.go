package telemetry

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net/http"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// A trace context (https://www.w3.org/TR/trace-context/) is in a context.Context as OpenTelemetry keeps it, and in
// messages and rows as a traceparent: 00-<trace ID>-<ID of the parent's span>-<flags>, 55 characters.

const traceparentLen = 55

// Extract returns a context with the trace context that came with a request. It is ctx where none is valid.
func Extract(ctx context.Context, header http.Header) context.Context {
	return propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(header))
}

// WithTrace returns a context that has a trace context: ctx, or, where it has none, one with a new trace that is not
// recorded.
func WithTrace(ctx context.Context) context.Context {
	if trace.SpanContextFromContext(ctx).IsValid() {
		return ctx
	}
	var ids trace.SpanContextConfig
	binary.NativeEndian.PutUint64(ids.TraceID[:8], rand.Uint64())
	binary.NativeEndian.PutUint64(ids.TraceID[8:], rand.Uint64()|1) // An ID of zeros is not valid.
	binary.NativeEndian.PutUint64(ids.SpanID[:], rand.Uint64()|1)
	return trace.ContextWithSpanContext(ctx, trace.NewSpanContext(ids))
}

// Inject replaces the trace context of a request's header by that of ctx.
func Inject(ctx context.Context, header http.Header) {
	delete(header, "Tracestate")
	delete(header, "Traceparent")
	propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(header))
}

// Traceparent returns the trace context of ctx, or "" where there is none.
func Traceparent(ctx context.Context) string {
	var text carrier
	propagation.TraceContext{}.Inject(ctx, &text)
	return string(text)
}

// ParseTraceparent checks a traceparent and returns it in the form of version 00, always 55 characters. Of a later
// version it keeps what version 00 knows, as the standard asks.
func ParseTraceparent(s string) (string, bool) {
	ctx := WithTraceparent(context.Background(), s)
	return Traceparent(ctx), trace.SpanContextFromContext(ctx).IsValid()
}

// WithTraceparent returns a context with the trace context that came with a message. It is ctx where that is not valid.
func WithTraceparent(ctx context.Context, traceparent string) context.Context {
	return propagation.TraceContext{}.Extract(ctx, (*carrier)(&traceparent))
}

// TraceID returns the part of a valid traceparent that all its spans share, or "" of anything else.
func TraceID(traceparent string) string {
	if len(traceparent) != traceparentLen {
		return ""
	}
	return traceparent[3:35]
}

// Sampled tells whether the spans of a valid traceparent are recorded.
func Sampled(traceparent string) bool {
	return len(traceparent) == traceparentLen && traceparent[traceparentLen-1]&1 == 1 // of a hexadecimal digit, 1 or 3
}

// carrier is a propagation.TextMapCarrier that has a traceparent and nothing else.
type carrier string

func (c *carrier) Get(key string) string {
	if key != "traceparent" {
		return ""
	}
	return string(*c)
}

func (c *carrier) Set(key, value string) {
	if key == "traceparent" {
		*c = carrier(value)
	}
}

func (c *carrier) Keys() []string { return []string{"traceparent"} }
