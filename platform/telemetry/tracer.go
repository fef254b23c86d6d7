package telemetry

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/altyn-pay/altyn/platform/config"
)

// Traces is the settings of tracing, with the names and meanings that OpenTelemetry gives them. The exporters and the
// SDK read further ones of its variables by themselves.
type Traces struct {
	Disabled       bool    `env:"OTEL_SDK_DISABLED" default:"false" help:"whether nothing is traced, whatever else is set"`
	Endpoint       string  `env:"OTEL_EXPORTER_OTLP_ENDPOINT" help:"URL of the collector that traces go to, such as http://127.0.0.1:4318 (default: nothing is traced)"`
	TracesEndpoint string  `env:"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" help:"the same for traces alone; over HTTP with the whole path"`
	Protocol       string  `env:"OTEL_EXPORTER_OTLP_PROTOCOL" default:"http/protobuf" help:"how the collector is spoken to: http/protobuf or grpc"`
	Sampler        string  `env:"OTEL_TRACES_SAMPLER" default:"parentbased_traceidratio" help:"which traces are recorded: always_on, always_off or traceidratio; after parentbased_ that is decided where a trace begins"`
	Ratio          float64 `env:"OTEL_TRACES_SAMPLER_ARG" default:"1" help:"part of the traces that traceidratio records, 0 to 1"`
	Queue          int     `env:"OTEL_BSP_MAX_QUEUE_SIZE" default:"16384" help:"spans that may wait to be exported; further ones are dropped"`
}

// endpoint is the URL that traces go to, or "" where none are made.
func (c Traces) endpoint() string {
	if c.Disabled {
		return ""
	}
	endpoint := cmp.Or(c.TracesEndpoint, c.Endpoint)
	if endpoint != "" && c.TracesEndpoint == "" && c.Protocol != grpcProtocol {
		endpoint = strings.TrimSuffix(endpoint, "/") + "/v1/traces"
	}
	return endpoint
}

const grpcProtocol = "grpc"

// Check returns what is wrong with the settings. Where the process is not open to everybody, traces go to other
// machines by TLS only.
func (c Traces) Check(open bool) error {
	var errs []error
	for name, endpoint := range map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": c.Endpoint, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": c.TracesEndpoint,
	} {
		u, err := url.Parse(endpoint)
		switch {
		case endpoint == "":
		case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil:
			errs = append(errs, config.Invalid(name, "must be a URL with http or https, without a name or password"))
		case u.Scheme == "http" && !open && u.Hostname() != "localhost" && !net.ParseIP(u.Hostname()).IsLoopback():
			errs = append(errs, config.Invalid(name,
				"must be https, because the collector is on another machine; ALTYN_OPEN=true lifts that"))
		}
	}
	if c.Protocol != "http/protobuf" && c.Protocol != grpcProtocol {
		errs = append(errs, config.Invalid("OTEL_EXPORTER_OTLP_PROTOCOL", "must be http/protobuf or grpc"))
	}
	if _, ok := c.sampler(); !ok {
		errs = append(errs, config.Invalid("OTEL_TRACES_SAMPLER",
			"must be always_on, always_off or traceidratio, or one of them after parentbased_"))
	}
	if !(c.Ratio >= 0 && c.Ratio <= 1) {
		errs = append(errs, config.Invalid("OTEL_TRACES_SAMPLER_ARG", "must be from 0 to 1"))
	}
	if c.Queue < 1 || c.Queue > maxQueue {
		errs = append(errs, config.Invalid("OTEL_BSP_MAX_QUEUE_SIZE", "must be from 1 to %d", maxQueue))
	}
	return errors.Join(errs...)
}

const maxQueue = 1 << 20

func (c Traces) sampler() (s sdk.Sampler, ok bool) {
	name, parentBased := strings.CutPrefix(c.Sampler, "parentbased_")
	switch name {
	case "always_on":
		s = sdk.AlwaysSample()
	case "always_off":
		s = sdk.NeverSample()
	case "traceidratio":
		s = sdk.TraceIDRatioBased(c.Ratio)
	default:
		return nil, false
	}
	if parentBased {
		s = sdk.ParentBased(s)
	}
	return s, true
}

// Tracer makes the spans of a process. A nil Tracer makes none and costs nothing; trace contexts go along all the same.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
}

// NewTracer makes a tracer, or nil where the settings name no collector. Spans are lost while the collector is away, or
// slower than they come, which is logged and counted.
func NewTracer(cfg Traces, service string, log *slog.Logger, metrics prometheus.Registerer) (*Tracer, error) {
	endpoint := cfg.endpoint()
	if endpoint == "" {
		return nil, nil
	}
	ctx := context.Background()
	var exporter sdk.SpanExporter
	var err error
	if cfg.Protocol == grpcProtocol {
		exporter, err = otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(endpoint))
	} else {
		exporter, err = otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(endpoint))
	}
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	of, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(semconv.ServiceName(service),
		semconv.ServiceVersion(config.ThisBuild().Version), semconv.ServiceInstanceID(uuid.NewString())),
		resource.WithFromEnv())
	if err != nil {
		return nil, config.Invalid("OTEL_RESOURCE_ATTRIBUTES", "must be a list name=value,…: %v", err)
	}
	sampler, _ := cfg.sampler()
	// While the queue fills, one batch is on its way.
	return newTracer(newCollector(exporter, cfg.Queue+sdk.DefaultMaxExportBatchSize, log, metrics), sampler, of), nil
}

func newTracer(c *collector, s sdk.Sampler, of *resource.Resource) *Tracer {
	limits := sdk.NewSpanLimits()
	limits.LinkCountLimit = max(limits.LinkCountLimit, maxLinks)
	// The processor has room for all that the collector lets it have: what it drops by itself, it tells nobody.
	batches := sdk.NewBatchSpanProcessor(c, sdk.WithMaxQueueSize(int(c.room)))
	provider := sdk.NewTracerProvider(sdk.WithSpanProcessor(queue{batches, c}), sdk.WithSampler(sampler{s}),
		sdk.WithResource(of), sdk.WithRawSpanLimits(limits))
	return &Tracer{provider, provider.Tracer("github.com/altyn-pay/altyn")}
}

// maxLinks bounds the links of a span: the messages of the largest batch.
const maxLinks = 1000

// flushTimeout bounds the export of the last spans.
const flushTimeout = 5 * time.Second

// Close exports the spans that have ended. No more are made.
func (t *Tracer) Close() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	_ = t.provider.Shutdown(ctx) // the collector has logged why
}

// On tells whether the tracer makes spans.
func (t *Tracer) On() bool { return t != nil }

// Start begins a span below that of ctx, or a trace, and returns a context that carries it. The caller ends the span.
func (t *Tracer) Start(ctx context.Context, name string, options ...trace.SpanStartOption) (
	context.Context, trace.Span) {
	if t == nil {
		return ctx, trace.SpanFromContext(context.Background())
	}
	return t.tracer.Start(ctx, name, options...)
}

// collector is an exporter that logs when it begins to fail and when it works again, and counts spans that are lost.
type collector struct {
	sdk.SpanExporter
	log     *slog.Logger
	dropped *prometheus.CounterVec
	room    int64        // spans that may wait or be on their way
	waiting atomic.Int64 // those that do
	away    atomic.Bool
	full    atomic.Int64 // spans for which there was no room, and of which the log does not tell yet
	told    time.Time    // when it last did
}

func newCollector(exporter sdk.SpanExporter, room int, log *slog.Logger, metrics prometheus.Registerer) *collector {
	c := &collector{SpanExporter: exporter, log: log, room: int64(room), dropped: prometheus.NewCounterVec(
		prometheus.CounterOpts{
			Name: "altyn_traces_dropped_spans_total",
			Help: "Spans that no collector has got: too many waited (queue_full), or their export failed (export_failed).",
		}, []string{"reason"})}
	metrics.MustRegister(c.dropped)
	for _, reason := range []string{queueFull, exportFailed} { // so that the first one is an increase
		c.dropped.WithLabelValues(reason)
	}
	return c
}

// Why spans are dropped.
const (
	queueFull    = "queue_full"
	exportFailed = "export_failed"
)

// fullEvery bounds how often the log tells that there was no room.
const fullEvery = time.Minute

// ExportSpans implements sdk.SpanExporter. It is not called again while it runs.
func (c *collector) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := c.SpanExporter.ExportSpans(ctx, spans)
	c.waiting.Add(-int64(len(spans)))
	if err != nil {
		c.dropped.WithLabelValues(exportFailed).Add(float64(len(spans)))
	}
	switch was := c.away.Swap(err != nil); {
	case err != nil && !was:
		c.log.Warn("traces are lost: the collector does not take them", "error", err)
	case err == nil && was:
		c.log.Info("traces go to the collector again")
	}
	if time.Since(c.told) >= fullEvery {
		if lost := c.full.Swap(0); lost > 0 {
			c.told = time.Now()
			c.log.Warn("spans are lost: too many wait for the collector", "spans", lost)
		}
	}
	return nil
}

// queue hands spans that have ended to a processor while there is room for them.
type queue struct {
	sdk.SpanProcessor
	to *collector
}

// OnEnd implements sdk.SpanProcessor.
func (q queue) OnEnd(span sdk.ReadOnlySpan) {
	if q.to.waiting.Add(1) <= q.to.room {
		q.SpanProcessor.OnEnd(span)
		return
	}
	q.to.waiting.Add(-1)
	q.to.full.Add(1)
	q.to.dropped.WithLabelValues(queueFull).Inc()
}

// sampler decides which spans are recorded: below a span of this process those below a recorded one, else those that
// the setting says. What a stranger asks for does not count, see FromStranger.
type sampler struct{ sdk.Sampler }

type originKey struct{}

type origin int

const (
	stranger origin = iota + 1
	batchOf         // sampled messages
)

// FromStranger marks the trace context of ctx as that of somebody who may not decide what is recorded: it is
// decided as about a new trace, whatever the flag and the trace ID are.
func FromStranger(ctx context.Context) context.Context {
	return context.WithValue(ctx, originKey{}, stranger)
}

// ShouldSample implements sdk.Sampler.
func (s sampler) ShouldSample(p sdk.SamplingParameters) sdk.SamplingResult {
	parent := trace.SpanContextFromContext(p.ParentContext)
	from := p.ParentContext.Value(originKey{})
	result := sdk.SamplingResult{Decision: sdk.Drop, Tracestate: parent.TraceState()}
	switch {
	case parent.IsValid() && !parent.IsRemote():
		if parent.IsSampled() {
			result.Decision = sdk.RecordAndSample
		}
		return result
	case from == batchOf:
		result.Decision = sdk.RecordAndSample
		return result
	case from == stranger && parent.IsValid():
		p.ParentContext = context.Background()
		binary.NativeEndian.PutUint64(p.TraceID[8:], rand.Uint64()) // What the ratio goes by.
		result.Decision = s.Sampler.ShouldSample(p).Decision
		return result
	}
	return s.Sampler.ShouldSample(p)
}
