package kafka

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	kafkago "github.com/segmentio/kafka-go"

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

// Retry implements outbox.Publisher. It asks for the metadata anew, by connections of its own.
func (p Publisher) Retry(ctx context.Context, messages []outbox.Message) []error {
	p.producer.aside.Forget()
	results := p.publish(ctx, p.producer.aside, messages)
	if slices.Contains(results, nil) {
		p.producer.catchUp(ctx, messages[slices.Index(results, nil)].Topic)
	}
	return results
}

// catchUp has Publish know of a topic what Retry knows.
func (p *Producer) catchUp(ctx context.Context, topic string) {
	was, err := p.pool.Topics(ctx, topic)
	is, asideErr := p.aside.Topics(ctx, topic)
	if err != nil || asideErr != nil || was[topic].Err != nil || !slices.Equal(was[topic].Leaders, is[topic].Leaders) {
		p.pool.Forget()
	}
}

func (p Publisher) publish(ctx context.Context, pool *broker.Pool, messages []outbox.Message) []error {
	records := make([]Message, len(messages))
	for i, m := range messages {
		event := Event{
			ID: m.ID.String(), Type: m.Type, Source: p.source, Subject: m.Subject, Time: m.CreatedAt, Traceparent: m.Traceparent,
		}
		records[i] = Message{Topic: m.Topic, Key: []byte(m.Key), Value: []byte(m.Payload), Headers: event.Headers()}
	}
	results := p.producer.produce(ctx, pool, 0, records)
	acknowledged := slices.Contains(results, nil)
	for i, err := range results {
		var part *partError
		if !errors.As(err, &part) {
			continue
		}
		// Where no broker answers, nothing is to be told apart.
		if !acknowledged && !broker.IsAnswer(err) && !broker.IsStale(err) {
			if !p.producer.answers(ctx) {
				break
			}
			acknowledged = true
		}
		results[i] = &outbox.Unavailable{Partitions: part.partitions, Partition: part.partition, Lost: isLost(err), Err: err}
	}
	return results
}

// answers tells whether any broker does.
func (p *Producer) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, broker.DialTimeout)
	defer cancel()
	p.aside.Forget()
	_, err := p.aside.Topics(ctx)
	return err == nil
}

// Permanent implements outbox.Publisher.
func (p Publisher) Permanent(err error) bool { return Permanent(err) }

const (
	// keepInterval is how often KeepTopics tries while the topics are not there.
	keepInterval = time.Second
	// lookInterval is how often it looks whether they still are.
	lookInterval = 10 * time.Second
)

// KeepTopics ensures topics in the background until ctx ends, then returns nil: a service can start while the broker
// is away, and a topic that is deleted is soon there again. A topic that cannot be what it must be when the service
// starts, or endangers messages there, is an error; where it only might, the log says so.
func KeepTopics(ctx context.Context, cfg Config, log *slog.Logger, topics ...string) error {
	told := map[string]bool{} // warnings
	for ensured, failed := false, false; ; {
		warnings, err := ensureTopics(ctx, cfg, topics)
		for _, warning := range warnings {
			if !told[warning] {
				told[warning] = true
				log.Warn("a kafka topic endangers its messages", "problem", warning)
			}
		}
		pause := lookInterval
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			ensured, failed = true, false
		case !ensured && Permanent(err):
			return err
		default:
			if pause = keepInterval; !failed || !ensured {
				log.Warn("kafka topics are not as they must be", "error", err, "retry_in", keepInterval)
			}
			failed = true
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// HasTopic tells whether a topic exists. What it knows may be some seconds old.
func (p *Producer) HasTopic(ctx context.Context, topic string) (bool, error) {
	_, err := p.pool.Partitions(ctx, topic)
	if broker.IsAny(err, kafkago.UnknownTopicOrPartition, kafkago.InvalidTopic) {
		return false, nil
	}
	return err == nil, err
}
