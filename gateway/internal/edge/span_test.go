package edge

import (
	"net/http"
	"testing"

	v1 "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/altyn-pay/altyn/platform/telemetry"
	"github.com/altyn-pay/altyn/testkit/otlptest"
)

// What a service is asked goes below the client's request, in its trace. Whether that is recorded is the gateway's to
// decide, unless it trusts its clients.
func TestARequestToAServiceIsASpan(t *testing.T) {
	const trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	for _, test := range []struct {
		ratio           float64
		trusts          bool
		flag            string
		status          int
		recorded, error bool
	}{
		{1, false, "00", 200, true, false},
		{0, false, "01", 200, false, false},
		{0, true, "01", 503, true, true},
		{1, true, "00", 200, false, false},
	} {
		var seen http.Header
		address := service(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/readyz" {
				seen = r.Header
				w.WriteHeader(test.status)
			}
		})
		collector := otlptest.New(t)
		g := setup(t, func(cfg *Config) {
			cfg.TrustSampling, cfg.Traces.Endpoint, cfg.Traces.Ratio = test.trusts, collector.URL, test.ratio
		}, address)
		request := newRequest(t, "GET", g.url+"/api/v1/orders", nil)
		request.Header["Traceparent"] = []string{"00-" + trace + "-" + parent + "-" + test.flag,
			"00-" + trace + "-0000000000000001-01"} // the first one counts
		request.Header.Set("Tracestate", "a=b")
		g.do(t, request)
		if err := g.stop(); err != nil {
			t.Fatal(err)
		}
		sent := seen["Traceparent"]
		if len(sent) != 1 || telemetry.TraceID(sent[0]) != trace || telemetry.Sampled(sent[0]) != test.recorded ||
			seen.Get("Tracestate") != "a=b" {
			t.Errorf("%+v: the service got %v", test, seen)
			continue
		}
		spans := collector.Spans()
		if !test.recorded {
			if len(spans) != 0 {
				t.Errorf("%+v: %v", test, spans)
			}
			continue
		}
		if err := otlptest.Torn(spans, parent); err != nil || len(spans) != 2 {
			t.Fatalf("%+v: %v: %v", test, err, spans)
		}
		client, server := spans[0], spans[1]
		if server.Name != "GET /api/v1/orders" || client.Kind != v1.Span_SPAN_KIND_CLIENT || client.Name != "GET" ||
			client.Parent() != server.ID() || client.ID() != sent[0][36:52] || server.Parent() != parent ||
			"http://"+client.Attribute("server.address") != address ||
			(client.Status.GetCode() == v1.Status_STATUS_CODE_ERROR) != test.error {
			t.Errorf("%+v: %v, %v", test, client, server)
		}
	}
}
