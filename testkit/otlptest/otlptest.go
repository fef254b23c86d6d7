// Package otlptest is a collector of OpenTelemetry's traces, for tests: it takes spans over HTTP and gRPC and keeps
// them.
package otlptest

import (
	"compress/gzip"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	v1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// Span is a span that was exported.
type Span struct {
	*v1.Span
	Service string // service.name of its resource
}

// Trace is the ID of the span's trace, as it is in a traceparent.
func (s Span) Trace() string { return hex.EncodeToString(s.TraceId) }

// ID and Parent are as in a traceparent; a trace's first span has no parent.
func (s Span) ID() string { return hex.EncodeToString(s.SpanId) }

// Parent is the ID of the span above.
func (s Span) Parent() string { return hex.EncodeToString(s.ParentSpanId) }

// Attribute is an attribute of type string, or "".
func (s Span) Attribute(key string) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			return a.Value.GetStringValue()
		}
	}
	return ""
}

// Collector is a running collector.
type Collector struct {
	collector.UnimplementedTraceServiceServer
	URL  string // for http/protobuf
	GRPC string // URL for grpc

	mu    sync.Mutex
	spans []Span
}

// New starts a collector, which runs until the test ends.
func New(t testing.TB) *Collector {
	t.Helper()
	c := new(Collector)
	server := httptest.NewServer(http.HandlerFunc(c.serve))
	t.Cleanup(server.Close)
	c.URL = server.URL
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.GRPC = "http://" + listener.Addr().String()
	calls := grpc.NewServer(grpc.MaxRecvMsgSize(maxRequest))
	collector.RegisterTraceServiceServer(calls, c)
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := calls.Serve(listener); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { calls.Stop(); serving.Wait() })
	return c
}

const maxRequest = 64 << 20

func (c *Collector) serve(w http.ResponseWriter, r *http.Request) {
	if err := c.take(r); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func (c *Collector) take(r *http.Request) error {
	if r.URL.Path != "/v1/traces" {
		return fmt.Errorf("nothing is taken at %s", r.URL.Path)
	}
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(body)
		if err != nil {
			return err
		}
		body = unzipped
	}
	text, err := io.ReadAll(io.LimitReader(body, maxRequest))
	request := new(collector.ExportTraceServiceRequest)
	if err = errors.Join(err, proto.Unmarshal(text, request)); err != nil {
		return err
	}
	_, err = c.Export(r.Context(), request)
	return err
}

// Export implements the gRPC service.
func (c *Collector) Export(_ context.Context, request *collector.ExportTraceServiceRequest) (
	*collector.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range request.ResourceSpans {
		service := ""
		for _, a := range resource.Resource.GetAttributes() {
			if a.Key == "service.name" {
				service = a.Value.GetStringValue()
			}
		}
		for _, scope := range resource.ScopeSpans {
			for _, span := range scope.Spans {
				c.spans = append(c.spans, Span{span, service})
			}
		}
	}
	return new(collector.ExportTraceServiceResponse), nil
}

// Spans are those that have come.
func (c *Collector) Spans() []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.spans)
}

// Traces are the spans by trace.
func (c *Collector) Traces() map[string][]Span {
	traces := map[string][]Span{}
	for _, span := range c.Spans() {
		traces[span.Trace()] = append(traces[span.Trace()], span)
	}
	return traces
}

// Torn returns what is wrong with the spans of a trace, or nil: it must have one first span, which has no parent or
// that of the client, all others must be below it, and each must have ended.
func Torn(trace []Span, client string) error {
	var errs []error
	known, first := map[string]bool{}, 0
	for _, s := range trace {
		if known[s.ID()] {
			errs = append(errs, fmt.Errorf("%s: two spans with the ID %s", s.Name, s.ID()))
		}
		known[s.ID()] = true
	}
	for _, s := range trace {
		switch parent := s.Parent(); {
		case parent == "" || parent == client:
			first++
		case !known[parent]:
			errs = append(errs, fmt.Errorf("%s of %s: its parent %s is not there", s.Name, s.Service, parent))
		}
		if s.EndTimeUnixNano < s.StartTimeUnixNano || s.EndTimeUnixNano == 0 {
			errs = append(errs, fmt.Errorf("%s of %s has not ended", s.Name, s.Service))
		}
	}
	if first != 1 {
		errs = append(errs, fmt.Errorf("%d first spans", first))
	}
	return errors.Join(errs...)
}
