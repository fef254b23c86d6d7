package kafka

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/kafka/internal/broker"
	"github.com/altyn-pay/altyn/platform/outbox"
	"github.com/altyn-pay/altyn/platform/telemetry"
)

// Publisher publishes an outbox as CloudEvents.
type Publisher struct {
	producer *Producer
	source   string
	tracer   *telemetry.Tracer
}

var _ outbox.Publisher = Publisher{}

// NewPublisher makes a publisher; source is the ce_source of its events, such as "/orders".
func NewPublisher(producer *Producer, source string) Publisher {
	return Publisher{producer: producer, source: source}
}

// Publish implements outbox.Publisher.
func (p Publisher) Publish(ctx context.Context, messages []outbox.Message) []error {
	return p.publish(ctx, p.producer.pool, messages)
}

// Retry implements outbox.Publisher. It refreshes the metadata, over connections of its own.
func (p Publisher) Retry(ctx context.Context, messages []outbox.Message) []error {
	p.producer.aside.Forget()
	results := p.publish(ctx, p.producer.aside, messages)
	if slices.Contains(results, nil) {
		p.producer.catchUp(ctx, messages[slices.Index(results, nil)].Topic)
	}
	return results
}

// catchUp makes Publish refresh its metadata if it knows less of a topic than Retry does.
func (p *Producer) catchUp(ctx context.Context, topic string) {
	was, err := p.pool.Topics(ctx, topic)
	is, asideErr := p.aside.Topics(ctx, topic)
	if err != nil || asideErr != nil || was[topic].Err != nil || !slices.Equal(was[topic].Leaders, is[topic].Leaders) {
		p.pool.Refresh() // Forget may have had its turn just before the topic became well
	}
}

func (p Publisher) publish(ctx context.Context, pool *broker.Pool, messages []outbox.Message) []error {
	records := make([]Message, len(messages))
	batch, spans := p.tracer.Batch("send batch", trace.SpanKindClient), make([]trace.Span, len(messages))
	for i, m := range messages {
		event := Event{
			ID: m.ID.String(), Type: m.Type, Source: p.source, Subject: m.Subject, Time: m.CreatedAt,
			Tenant: cmp.Or(m.Tenant, identity.DefaultTenant),
		}
		spans[i], event.Traceparent = begin(batch, m)
		records[i] = Message{Topic: m.Topic, Key: []byte(m.Key), Value: []byte(m.Payload), Headers: event.Headers()}
	}
	results := p.producer.produce(ctx, pool, 0, records)
	answers := sync.OnceValue(func() bool { return slices.Contains(results, nil) || p.producer.answers(ctx) })
	for i, err := range results {
		part, ok := errors.AsType[*outbox.Unavailable](err)
		if ok && !broker.IsAnswer(err) && !broker.IsStale(err) && !answers() {
			results[i] = part.Err // when no broker answers at all, no partition is to blame
		}
		telemetry.Fail(spans[i], err)
	}
	batch.End(nil, semconv.MessagingSystemKafka, semconv.MessagingOperationTypeSend,
		semconv.MessagingOperationName("send"), semconv.MessagingBatchMessageCount(len(messages)))
	return results
}

// answers tells whether any broker answers.
func (p *Producer) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, broker.DialTimeout)
	defer cancel()
	p.aside.Forget()
	_, err := p.aside.Topics(ctx)
	return err == nil
}

// Permanent implements outbox.Publisher.
func (p Publisher) Permanent(err error) bool { return Permanent(err) }

// Event is the context of a message in the binary mode of CloudEvents 1.0 over Kafka: everything but the payload.
type Event struct {
	ID          string
	Type        string
	Source      string
	Subject     string    // optional
	Time        time.Time // optional
	Traceparent string    // optional; the W3C trace context
	Tenant      string    // optional; whose it is, that of identity.DefaultTenant where it is missing
}

// Headers returns the event as headers of a message whose value is JSON.
func (e Event) Headers() []Header {
	headers := make([]Header, 0, 9)
	add := func(key, value string) {
		if value != "" {
			headers = append(headers, Header{Key: key, Value: []byte(value)})
		}
	}
	add("ce_specversion", "1.0")
	add("ce_id", e.ID)
	add("ce_type", e.Type)
	add("ce_source", e.Source)
	if !e.Time.IsZero() {
		add("ce_time", contract.Time(e.Time).String())
	}
	add("ce_subject", e.Subject)
	add("ce_tenant", e.Tenant)
	add("content-type", "application/json")
	add("traceparent", e.Traceparent)
	return headers
}

// EventOf reads the event from a message's headers. What is missing or malformed stays zero.
func EventOf(m Message) (event Event) {
	for _, h := range m.Headers { // the last one of a name counts, as in Message.Header
		switch h.Key {
		case "ce_id":
			event.ID = string(h.Value)
		case "ce_type":
			event.Type = string(h.Value)
		case "ce_source":
			event.Source = string(h.Value)
		case "ce_subject":
			event.Subject = string(h.Value)
		case "ce_tenant":
			event.Tenant = string(h.Value)
		case "ce_time":
			at, _ := time.Parse(time.RFC3339Nano, string(h.Value))
			event.Time = at.UTC()
		case "traceparent": // checked, because anyone may have written it and it is passed on
			event.Traceparent, _ = telemetry.ParseTraceparent(string(h.Value))
		}
	}
	return event
}
