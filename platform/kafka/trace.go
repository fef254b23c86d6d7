package kafka

import (
	"context"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/outbox"
	"github.com/altyn-pay/altyn/platform/telemetry"
)

var (
	ofProducer = trace.WithSpanKind(trace.SpanKindProducer)
	ofConsumer = trace.WithSpanKind(trace.SpanKindConsumer)
)

// Traced returns the publisher with spans: one for each sampled message, from when it was stored in the outbox until
// the broker has it or refuses it. A nil tracer makes none.
func (p Publisher) Traced(tracer *telemetry.Tracer) Publisher {
	p.tracer = tracer
	return p
}

// begin begins a message's span, and returns it with the traceparent that the message has on its topic.
func begin(spans *telemetry.Batch, m outbox.Message) (trace.Span, string) {
	if !spans.Records(m.Traceparent) {
		return nil, m.Traceparent
	}
	at := m.CreatedAt
	if now := time.Now(); at.After(now) { // by the database's clock
		at = now
	}
	return spans.Begin(m.Traceparent, "send "+m.Topic, ofProducer, trace.WithTimestamp(at), trace.WithAttributes(
		semconv.MessagingSystemKafka, semconv.MessagingOperationTypeSend, semconv.MessagingOperationName("send"),
		semconv.MessagingDestinationName(m.Topic), semconv.MessagingMessageID(m.ID.String()),
		semconv.MessagingKafkaMessageKey(m.Key), semconv.CloudEventsEventType(m.Type),
		semconv.CloudEventsEventSubject(m.Subject),
		attribute.Int64("altyn.outbox.wait_ms", time.Since(at).Milliseconds())))
}

// Traced returns a handler that handles each sampled message in a span, below which goes what follows from it: it has
// the span's traceparent in place of its own. Of topics that anybody writes on, what a message asks for does not decide
// whether it is sampled. Without a tracer it is handler.
func Traced(tracer *telemetry.Tracer, handler Handler) Handler {
	if !tracer.On() {
		return handler
	}
	return func(ctx context.Context, messages []Message) error {
		topic := messages[0].Topic
		spans := tracer.Batch("process batch of "+topic, trace.SpanKindConsumer)
		handled := messages
		for i, m := range messages {
			if !receive(spans, &m) {
				continue
			}
			if &handled[0] == &messages[0] { // which stay as they are, for the next attempt
				handled = slices.Clone(messages)
			}
			handled[i] = m
		}
		err := handler(ctx, handled)
		spans.End(err, semconv.MessagingSystemKafka, semconv.MessagingOperationTypeProcess,
			semconv.MessagingOperationName("process"), semconv.MessagingDestinationName(topic),
			semconv.MessagingBatchMessageCount(len(messages)))
		return err
	}
}

// receive begins a message's span, and reports whether the message has another traceparent from then on.
func receive(spans *telemetry.Batch, m *Message) (changed bool) {
	const key = "traceparent"
	at, came := -1, ""
	for i, h := range m.Headers { // the last one counts, as in EventOf
		if h.Key == key {
			at, came = i, string(h.Value)
		}
	}
	start := spans.Begin
	if contract.FromAnyone(m.Topic) {
		start = spans.Admit
	} else if !spans.Records(came) {
		return false
	}
	span, goesOn := start(came, "process "+m.Topic, ofConsumer)
	if goesOn == came {
		return false
	}
	header := Header{Key: key, Value: []byte(goesOn)}
	if m.Headers = slices.Clone(m.Headers); at < 0 {
		m.Headers = append(m.Headers, header)
	} else {
		m.Headers[at] = header
	}
	if span != nil {
		event := EventOf(*m)
		span.SetAttributes(semconv.MessagingSystemKafka, semconv.MessagingOperationTypeProcess,
			semconv.MessagingOperationName("process"), semconv.MessagingDestinationName(m.Topic),
			semconv.MessagingMessageID(event.ID), semconv.MessagingKafkaMessageKey(string(m.Key)),
			semconv.MessagingKafkaOffset(int(m.Offset)), semconv.CloudEventsEventType(event.Type),
			semconv.CloudEventsEventSubject(event.Subject))
	}
	return true
}
