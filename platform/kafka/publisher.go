package kafka

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/kafka/internal/broker"
	"github.com/altyn-pay/altyn/platform/outbox"
)

// Publisher publishes an outbox as CloudEvents.
type Publisher struct {
	producer *Producer
	source   string
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

// catchUp makes Publish refresh its metadata when it knows less of a topic than Retry.
func (p *Producer) catchUp(ctx context.Context, topic string) {
	was, err := p.pool.Topics(ctx, topic)
	is, asideErr := p.aside.Topics(ctx, topic)
	if err != nil || asideErr != nil || was[topic].Err != nil || !slices.Equal(was[topic].Leaders, is[topic].Leaders) {
		p.pool.Refresh() // Forget may have had its turn just before the topic became well
	}
}

func (p Publisher) publish(ctx context.Context, pool *broker.Pool, messages []outbox.Message) []error {
	records := make([]Message, len(messages))
	for i, m := range messages {
		event := Event{
			ID: m.ID.String(), Type: m.Type, Source: p.source, Subject: m.Subject, Time: m.CreatedAt, Traceparent: m.Traceparent,
			Tenant: cmp.Or(m.Tenant, identity.DefaultTenant),
		}
		records[i] = Message{Topic: m.Topic, Key: []byte(m.Key), Value: []byte(m.Payload), Headers: event.Headers()}
	}
	results := p.producer.produce(ctx, pool, 0, records)
	answers := sync.OnceValue(func() bool { return slices.Contains(results, nil) || p.producer.answers(ctx) })
	for i, err := range results {
		part, ok := errors.AsType[*outbox.Unavailable](err)
		if ok && !broker.IsAnswer(err) && !broker.IsStale(err) && !answers() {
			results[i] = part.Err // when no broker answers at all, no partition is to blame
		}
	}
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
