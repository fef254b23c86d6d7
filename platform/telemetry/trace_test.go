package telemetry

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/testkit/otlptest"
)

const sampledParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

const parentID = "00f067aa0ba902b7"

var unsampledParent = strings.TrimSuffix(sampledParent, "1") + "0"

func TestParseTraceparent(t *testing.T) {
	for _, test := range []struct{ name, in, want string }{
		{"valid", sampledParent, sampledParent},
		{"later version", "cc" + sampledParent[2:] + "-what-ever", sampledParent},
		{"later version, nothing more", "cc" + sampledParent[2:], sampledParent},
		{"version ff", "ff" + sampledParent[2:], ""},
		{"version 00 is longer", sampledParent + "-x", ""},
		{"upper case", strings.ToUpper(sampledParent), ""},
		{"no trace", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", ""},
		{"no parent", "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", ""},
		{"short", sampledParent[:54], ""},
		{"empty", "", ""},
		{"not hex", "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01", ""},
		{"dashes", "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01", ""},
	} {
		if got, ok := ParseTraceparent(test.in); got != test.want || ok != (test.want != "") {
			t.Errorf("%s: got %q, %v", test.name, got, ok)
		}
	}
}

func TestWithTrace(t *testing.T) {
	a, b := Traceparent(WithTrace(t.Context())), Traceparent(WithTrace(t.Context()))
	if len(a) != traceparentLen || a == b || Sampled(a) {
		t.Errorf("got %q and %q", a, b)
	}
	if got := Traceparent(WithTrace(WithTraceparent(t.Context(), a))); got != a {
		t.Errorf("the context carries %q", got)
	}
}

// tracer is a tracer with a collector. collected ends the tracer and returns what the collector has.
func tracer(t *testing.T, settings ...string) (tracer *Tracer, collected func() []otlptest.Span) {
	t.Helper()
	collector := otlptest.New(t)
	variables := map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL}
	for _, s := range settings {
		name, value, _ := strings.Cut(s, "=")
		variables[name] = value
	}
	if variables["OTEL_EXPORTER_OTLP_PROTOCOL"] == grpcProtocol {
		variables["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.GRPC
	}
	cfg, err := config.LoadFrom[Traces](variables)
	if err = errors.Join(err, cfg.Check(false)); err != nil {
		t.Fatal(err)
	}
	tracer, err = NewTracer(cfg, "orders", slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tracer.Close)
	return tracer, func() []otlptest.Span { tracer.Close(); return collector.Spans() }
}

func TestSpansAreExported(t *testing.T) {
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "service.namespace=altyn")
	for _, protocol := range []string{grpcProtocol, "http/protobuf"} {
		tracer, collected := tracer(t, "OTEL_EXPORTER_OTLP_PROTOCOL="+protocol)
		ctx, span := tracer.Start(WithTraceparent(t.Context(), sampledParent), "outer")
		_, inner := tracer.Start(ctx, "inner")
		inner.End()
		span.End()
		spans := collected()
		if len(spans) != 2 || spans[0].Service != "orders" {
			t.Fatalf("%s: %v", protocol, spans)
		}
		if err := otlptest.Torn(spans, parentID); err != nil || spans[0].Trace() != TraceID(sampledParent) {
			t.Errorf("%s: %v: %v", protocol, err, spans)
		}
	}
}

func TestWithoutACollectorNothingIsMade(t *testing.T) {
	for name, cfg := range map[string]Traces{
		"no endpoint": {Sampler: "always_on"},
		"disabled":    {Endpoint: "http://127.0.0.1:1", Disabled: true, Sampler: "always_on"},
	} {
		tracer, err := NewTracer(cfg, "orders", slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		if err != nil || tracer.On() {
			t.Fatalf("%s: %v, %v", name, tracer, err)
		}
		ctx := WithTraceparent(t.Context(), sampledParent)
		if n := testing.AllocsPerRun(100, func() {
			same, span := tracer.Start(ctx, "name")
			batch := tracer.Batch("batch", trace.SpanKindClient)
			of, goesOn := batch.Begin(sampledParent, "message")
			batch.End(nil)
			if same != ctx || span.IsRecording() || of != nil || goesOn != sampledParent {
				t.Fatal("something was made")
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
		tracer.Close()
	}
}

func TestMessagesThatAreNotSampledCostNothing(t *testing.T) {
	tracer, collected := tracer(t)
	batch := tracer.Batch("batch", trace.SpanKindClient)
	if n := testing.AllocsPerRun(100, func() {
		for _, traceparent := range []string{unsampledParent, ""} {
			if span, goesOn := batch.Begin(traceparent, "message"); span != nil || goesOn != traceparent {
				t.Fatal("it has a span")
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	batch.End(nil)
	if spans := collected(); len(spans) != 0 {
		t.Errorf("exported %v", spans)
	}
}

func TestABatchLinksToItsMessages(t *testing.T) {
	tracer, collected := tracer(t, "OTEL_TRACES_SAMPLER_ARG=0")
	batch := tracer.Batch("batch", trace.SpanKindConsumer)
	_, goesOn := batch.Begin(sampledParent, "a")
	batch.Begin(unsampledParent, "none")
	batch.Begin(strings.ReplaceAll(sampledParent, "4", "5"), "b")
	batch.Link(unsampledParent)
	batch.Link(sampledParent)
	batch.End(errors.New("away"), attribute.Int("n", 3))
	spans := map[string]otlptest.Span{}
	for _, s := range collected() {
		spans[s.Name] = s
	}
	if len(spans) != 3 || TraceID(goesOn) != TraceID(sampledParent) || goesOn[36:52] != spans["a"].ID() ||
		spans["a"].Parent() != parentID || spans["b"].Trace() != strings.ReplaceAll(TraceID(sampledParent), "4", "5") {
		t.Errorf("%s, %v", goesOn, spans)
	}
	own := spans["batch"]
	if own.Parent() != "" || own.Trace() == spans["a"].Trace() || len(own.Links) != 3 || len(own.Attributes) != 1 ||
		string(own.Links[1].SpanId) != string(spans["b"].SpanId) || hex.EncodeToString(own.Links[2].SpanId) != parentID ||
		own.Status.GetMessage() != "away" {
		t.Errorf("the batch's span is %v", own)
	}
}

// A message that goes on with something is linked to where that began, if both are recorded.
func TestAMessageFollowsWhatItIsAbout(t *testing.T) {
	other := strings.ReplaceAll(sampledParent, "4", "5")
	for name, test := range map[string]struct {
		came, begun string
		links       int
	}{
		"both recorded":    {sampledParent, other, 1},
		"only the message": {sampledParent, unsampledParent, 0},
		"nothing is known": {sampledParent, "", 0},
		"not the message":  {unsampledParent, other, 0},
	} {
		tracer, collected := tracer(t)
		batch := tracer.Batch("batch", trace.SpanKindInternal)
		batch.Begin(other, "another")
		_, goesOn := batch.Begin(test.came, "message")
		batch.Follow(goesOn, test.begun)
		batch.Follow(test.came, test.begun) // which this batch has not begun
		batch.End(nil)
		links := 0
		for _, span := range collected() {
			if span.Name == "batch" {
				continue
			}
			links += len(span.Links)
			for _, link := range span.Links {
				if span.Name != "message" || hex.EncodeToString(link.TraceId) != TraceID(test.begun) {
					t.Errorf("%s: %s links to %x", name, span.Name, link.TraceId)
				}
			}
		}
		if links != test.links {
			t.Errorf("%s: %d links", name, links)
		}
	}
	var none *Batch
	none.Follow(sampledParent, other)
}

func TestSampling(t *testing.T) {
	sampled := WithTraceparent(context.Background(), sampledParent)
	unsampled := WithTraceparent(context.Background(), unsampledParent)
	for _, test := range []struct {
		name, sampler, ratio string
		ctx                  context.Context
		recorded             bool
	}{
		{"a recorded parent", "parentbased_traceidratio", "0", sampled, true},
		{"a parent that is not recorded", "parentbased_traceidratio", "1", unsampled, false},
		{"a new trace", "parentbased_traceidratio", "1", context.Background(), true},
		{"no trace", "parentbased_always_off", "1", context.Background(), false},
		{"a stranger's flag", "parentbased_traceidratio", "0", FromStranger(sampled), false},
		{"a stranger without the flag", "parentbased_traceidratio", "1", FromStranger(unsampled), true},
		{"a stranger without a trace", "parentbased_traceidratio", "1", FromStranger(context.Background()), true},
		{"no matter which parent", "always_on", "0", unsampled, true},
		{"by the ID alone", "traceidratio", "0", sampled, false},
	} {
		tracer, _ := tracer(t, "OTEL_TRACES_SAMPLER="+test.sampler, "OTEL_TRACES_SAMPLER_ARG="+test.ratio)
		ctx, span := tracer.Start(test.ctx, "span")
		_, below := tracer.Start(ctx, "below")
		if span.IsRecording() != test.recorded || below.IsRecording() != test.recorded ||
			Sampled(Traceparent(ctx)) != test.recorded {
			t.Errorf("%s: recorded %v, below it %v", test.name, span.IsRecording(), below.IsRecording())
		}
	}
	// A trace ID that the ratio would take always, or never, decides nothing.
	for _, id := range []string{strings.Repeat("0", 31) + "1", strings.Repeat("f", 32)} {
		tracer, _ := tracer(t, "OTEL_TRACES_SAMPLER_ARG=0.5")
		ctx, recorded := FromStranger(WithTraceparent(t.Context(), "00-"+id+"-"+parentID+"-01")), 0
		for range 1000 {
			if _, span := tracer.Start(ctx, "span"); span.IsRecording() {
				recorded++
			}
		}
		if recorded < 300 || recorded > 700 {
			t.Errorf("%s was recorded %d times of 1000", id, recorded)
		}
	}
}

func TestSettingsOfTraces(t *testing.T) {
	for _, test := range []struct {
		variable, value, wrong string
		open                   bool
	}{
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4318", "", false},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318", "must be https", false},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318", "", true},
		{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "collector:4317", "must be a URL", false},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "https://me:secret@collector", "must be a URL", false},
		{"OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "must be http/protobuf or grpc", false},
		{"OTEL_TRACES_SAMPLER", "sometimes", "must be always_on", false},
		{"OTEL_TRACES_SAMPLER_ARG", "1.5", "must be from 0 to 1", false},
		{"OTEL_TRACES_SAMPLER_ARG", "NaN", "must be from 0 to 1", false},
		{"OTEL_BSP_MAX_QUEUE_SIZE", "0", "must be from 1", false},
	} {
		cfg, err := config.LoadFrom[Traces](map[string]string{test.variable: test.value})
		if err != nil {
			t.Fatal(err)
		}
		err = cfg.Check(test.open)
		if (err == nil) != (test.wrong == "") || err != nil && !strings.Contains(err.Error(), test.variable+" "+test.wrong) {
			t.Errorf("%s=%s: %v", test.variable, test.value, err)
		}
	}
}

// An exemplar names the trace of a time that was measured, if there is a span of it.
func TestExemplars(t *testing.T) {
	tracer, _ := tracer(t)
	registry := NewRegistry("orders")
	histogram := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "seconds", Buckets: []float64{1, 2}})
	registry.MustRegister(histogram)
	ctx, span := tracer.Start(t.Context(), "span")
	Observe(histogram, 0, span)
	Observe(histogram, 1_500_000_000, trace.SpanFromContext(WithTrace(context.Background())))
	request := newRequest("Accept", "application/openmetrics-text; version=1.0.0")
	body := serve(MetricsHandler(registry), request)
	want := fmt.Sprintf("seconds_bucket{le=\"1.0\"} 1 # {trace_id=\"%s\"}", TraceID(Traceparent(ctx)))
	if !strings.Contains(body, want) || strings.Count(body, "trace_id") != 1 {
		t.Errorf("without %s:\n%s", want, body)
	}
	if body := serve(MetricsHandler(registry), newRequest()); strings.Contains(body, "trace_id") {
		t.Errorf("not asked for: %s", body)
	}
}

// A collector that is away is told of once, and so is its return.
func TestACollectorThatIsAway(t *testing.T) {
	var log strings.Builder
	exporter := &fake{err: errors.New("connection refused")}
	c := newCollector(exporter, 1, slog.New(slog.NewTextHandler(&log, nil)), prometheus.NewRegistry())
	for _, err := range []error{exporter.err, exporter.err, nil, nil} {
		exporter.err = err
		if err := c.ExportSpans(t.Context(), nil); err != nil {
			t.Error(err)
		}
	}
	if strings.Count(log.String(), "connection refused") != 1 || strings.Count(log.String(), "again") != 1 {
		t.Error(log.String())
	}
}

// Each span that no collector gets is counted, and the log tells of them in one line.
func TestDroppedSpansAreCounted(t *testing.T) {
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000") // nothing is exported before the end
	for name, test := range map[string]struct {
		spans        int
		err          error
		full, failed float64
		log          string
	}{
		"all fit":              {3, nil, 0, 0, ""},
		"too many":             {10, nil, 7, 0, "too many wait for the collector\" spans=7"},
		"none is taken":        {3, errors.New("away"), 0, 3, "does not take them"},
		"too many, none taken": {10, errors.New("away"), 7, 3, "too many wait for the collector\" spans=7"},
	} {
		var log strings.Builder
		c := newCollector(&fake{err: test.err}, 3, slog.New(slog.NewTextHandler(&log, nil)), prometheus.NewRegistry())
		tracer := newTracer(c, sdk.AlwaysSample(), resource.Empty())
		for range test.spans {
			_, span := tracer.Start(t.Context(), "span")
			span.End()
		}
		tracer.Close()
		full, failed := testutil.ToFloat64(c.dropped.WithLabelValues(queueFull)),
			testutil.ToFloat64(c.dropped.WithLabelValues(exportFailed))
		if full != test.full || failed != test.failed || c.waiting.Load() != 0 {
			t.Errorf("%s: %v for want of room, %v failed, %d wait", name, full, failed, c.waiting.Load())
		}
		if lines := strings.Count(log.String(), "too many"); !strings.Contains(log.String(), test.log) ||
			lines != min(1, int(test.full)) {
			t.Errorf("%s: %s", name, log.String())
		}
	}
}

func BenchmarkRequestWithoutACollector(b *testing.B) {
	var tracer *Tracer
	header := http.Header{"Traceparent": {sampledParent}}
	b.ReportAllocs()
	for b.Loop() {
		ctx := Extract(context.Background(), header)
		ctx, _ = tracer.Start(WithTrace(ctx), "span")
		_ = Traceparent(ctx)
	}
}

type fake struct {
	sdk.SpanExporter
	err error
}

func (f *fake) ExportSpans(context.Context, []sdk.ReadOnlySpan) error { return f.err }

func (f *fake) Shutdown(context.Context) error { return nil }

func serve(handler http.Handler, request *http.Request) string {
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, request)
	return recorder.Body.String()
}

func newRequest(headers ...string) *http.Request {
	request := httptest.NewRequest("GET", "/", nil)
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	return request
}

// What a message of a batch costs, by the part of them that is recorded; the exporter takes spans and drops them.
func BenchmarkBatch(b *testing.B) {
	for name, every := range map[string]int{"none": 1 << 30, "1 percent": 100, "all": 1} {
		b.Run(name, func(b *testing.B) {
			tracer := newTracer(newCollector(&fake{}, 1<<14, slog.New(slog.DiscardHandler), prometheus.NewRegistry()),
				sdk.AlwaysSample(), resource.Empty())
			defer tracer.Close()
			b.ReportAllocs()
			for i := 0; i < b.N; {
				batch := tracer.Batch("batch", trace.SpanKindInternal)
				for range min(1000, b.N-i) {
					traceparent := unsampledParent
					if i%every == 0 {
						traceparent = sampledParent
					}
					if span, _ := batch.Begin(traceparent, "message"); span != nil {
						span.SetAttributes(attribute.String("altyn.message_id", parentID))
					}
					i++
				}
				batch.End(nil)
			}
		})
	}
}
