package httpserver

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	v1 "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/altyn-pay/altyn/platform/telemetry"
	"github.com/altyn-pay/altyn/testkit/otlptest"
)

// askTraced sends one request to a router with a tracer, and returns its spans and what the handler saw as its trace.
func askTraced(t *testing.T, ratio float64, strangers bool, path, traceparent string) (
	spans []otlptest.Span, seen string) {
	t.Helper()
	collector := otlptest.New(t)
	tracer, err := telemetry.NewTracer(telemetry.Traces{Endpoint: collector.URL, Sampler: "parentbased_traceidratio",
		Ratio: ratio, Queue: 10}, "orders", slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	router := NewRouter(Options{Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
		Tracer: tracer, Strangers: strangers})
	answer := func(_ http.ResponseWriter, r *http.Request) error {
		seen = telemetry.Traceparent(r.Context())
		if r.Method == http.MethodPost {
			return errors.New("the database is gone")
		}
		return nil
	}
	router.Get("/things/{id}", Handle(answer))
	router.Post("/things/{id}", Handle(answer))
	router.Get("/readyz", Handle(answer))
	method := http.MethodGet
	if path == "/things/broken" {
		method = http.MethodPost
	}
	request := httptest.NewRequest(method, "http://localhost"+path, nil)
	request.Header.Set("Traceparent", traceparent)
	router.ServeHTTP(httptest.NewRecorder(), request)
	tracer.Close()
	return collector.Spans(), seen
}

func TestARequestIsASpan(t *testing.T) {
	const trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	const sampled, unsampled = "00-" + trace + "-" + parent + "-01", "00-" + trace + "-" + parent + "-00"
	for _, test := range []struct {
		name        string
		ratio       float64
		strangers   bool
		path        string
		traceparent string
		recorded    bool
	}{
		{"below a recorded one", 0, false, "/things/1", sampled, true},
		{"below one that is not recorded", 1, false, "/things/1", unsampled, false},
		{"a stranger asks for it", 0, true, "/things/1", sampled, false},
		{"a stranger does not ask for it", 1, true, "/things/1", unsampled, true},
		{"a probe", 1, false, "/readyz", sampled, false},
	} {
		spans, seen := askTraced(t, test.ratio, test.strangers, test.path, test.traceparent)
		if test.recorded != (len(spans) == 1) || telemetry.TraceID(seen) != trace {
			t.Errorf("%s: %v, seen %s", test.name, spans, seen)
			continue
		}
		if test.recorded && (spans[0].Parent() != parent || seen != "00-"+trace+"-"+spans[0].ID()+"-01") {
			t.Errorf("%s: %v, seen %s", test.name, spans[0], seen)
		}
		if test.recorded != telemetry.Sampled(seen) && test.path != "/readyz" {
			t.Errorf("%s: seen %s", test.name, seen)
		}
	}

	spans, seen := askTraced(t, 1, false, "/things/broken", "")
	if len(spans) != 1 {
		t.Fatal(spans)
	}
	if s := spans[0]; s.Name != "POST /things/{id}" || s.Kind != v1.Span_SPAN_KIND_SERVER || s.Parent() != "" ||
		s.Attribute("http.route") != "/things/{id}" || s.Attribute("url.path") != "/things/broken" ||
		s.Attribute("error.type") != "500" || s.Status.GetCode() != v1.Status_STATUS_CODE_ERROR ||
		telemetry.TraceID(seen) != s.Trace() {
		t.Errorf("%v, seen %s", s, seen)
	}
}
