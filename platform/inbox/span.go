package inbox

import (
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/altyn-pay/altyn/platform/telemetry"
)

// errAgain ends the spans of a transaction that is tried again.
var errAgain = errors.New("the transaction was rolled back and is tried again")

// begin begins the spans of messages that are about to take effect. What follows from them goes below their spans.
func (w *Worker[B]) begin(messages []Message[B]) *telemetry.Batch {
	spans := w.Tracer.Batch("settle batch", trace.SpanKindInternal)
	for i := range messages {
		m := &messages[i]
		if !spans.Records(m.Traceparent) {
			continue
		}
		var span trace.Span
		if span, m.Traceparent = spans.Begin(m.Traceparent, "settle "+m.Kind); span == nil {
			continue
		}
		span.SetAttributes(attribute.Stringer("altyn.message_id", m.ID),
			attribute.Stringer("altyn.account_id", m.AccountID),
			attribute.Int64("altyn.inbox.wait_ms", time.Since(m.ReceivedAt).Milliseconds()))
	}
	return spans
}

// end ends the spans of a transaction.
func (w *Worker[B]) end(spans *telemetry.Batch, messages int, err error) {
	spans.End(err, semconv.DBSystemNamePostgreSQL, attribute.Int("altyn.batch_size", messages))
}
