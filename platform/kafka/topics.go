package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strconv"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka/internal/broker"
	"github.com/altyn-pay/altyn/platform/stage"
)

// ensureTimeout bounds EnsureTopics where the caller's context has no deadline.
const ensureTimeout = time.Minute

var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

// ValidTopic tells whether Kafka allows the name; a message to another one is refused for good.
func ValidTopic(name string) bool { return topicName.MatchString(name) && name != "." && name != ".." }

// EnsureTopics creates the topics that do not exist yet, with the configured number of partitions, replicas and
// retention, and returns once every partition has a leader. It waits up to a minute for brokers that have just been
// started. Any number of callers may run at once.
//
// A topic that exists stays as it is. It must have a number of partitions that divides the number of lanes, so that a
// partition always carries the same lanes, and, where replicas are configured, settings that endanger no acknowledged
// message.
func EnsureTopics(ctx context.Context, cfg Config, topics ...string) error {
	_, err := ensureTopics(ctx, cfg, topics)
	return err
}

// ensureTopics also returns warnings about topics that are used all the same.
func ensureTopics(ctx context.Context, cfg Config, topics []string) (warnings []string, err error) {
	if len(topics) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, ensureTimeout)
	defer cancel()
	pool, err := broker.Connect(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, fmt.Errorf("kafka: ensure topics: %w", err)
	}
	defer pool.Close()
	if err := pool.Try(ctx, ensureTimeout, Permanent, func() (err error) {
		warnings, err = ensureOnce(ctx, pool, cfg, topics)
		return err
	}); err != nil {
		return nil, fmt.Errorf("kafka: ensure topics: %w", err)
	}
	return warnings, nil
}

func ensureOnce(ctx context.Context, pool *broker.Pool, cfg Config, topics []string) (warnings []string, err error) {
	metadata, err := pool.Client.Metadata(ctx, &kafkago.MetadataRequest{Topics: topics})
	if err != nil {
		return nil, err
	}
	missing := slices.Clone(topics)
	for _, topic := range metadata.Topics {
		switch {
		case errors.Is(topic.Error, kafkago.UnknownTopicOrPartition):
			continue
		case topic.Error != nil:
			return nil, fmt.Errorf("topic %q: %w", topic.Name, topic.Error)
		case !broker.DividesLanes(len(topic.Partitions)):
			return nil, permanentError{fmt.Errorf("topic %q has %d partitions, which does not divide %d",
				topic.Name, len(topic.Partitions), contract.Lanes)}
		}
		for _, partition := range topic.Partitions {
			if partition.Error != nil {
				return nil, fmt.Errorf("topic %q partition %d: %w", topic.Name, partition.ID, partition.Error)
			}
		}
		missing = slices.DeleteFunc(missing, func(name string) bool { return name == topic.Name })
	}
	if len(missing) == 0 {
		return checkTopics(ctx, pool, cfg, metadata.Topics)
	}
	request := &kafkago.CreateTopicsRequest{}
	for _, topic := range missing {
		settings := []kafkago.ConfigEntry{
			{ConfigName: retention, ConfigValue: strconv.FormatInt(cfg.Retention.Milliseconds(), 10)},
			{ConfigName: minInSync, ConfigValue: strconv.Itoa(cfg.LeastInSync())},
			{ConfigName: uncleanElection, ConfigValue: "false"},
		}
		if contract.FromAnyone(topic) {
			settings = append(settings, kafkago.ConfigEntry{ConfigName: timestampType, ConfigValue: brokersTime})
		}
		request.Topics = append(request.Topics, kafkago.TopicConfig{
			Topic: topic, NumPartitions: cfg.Partitions, ReplicationFactor: cfg.ReplicationFactor, ConfigEntries: settings,
		})
	}
	response, err := pool.Client.CreateTopics(ctx, request)
	if err != nil {
		return nil, err
	}
	for topic, err := range response.Errors {
		switch {
		case err == nil, errors.Is(err, kafkago.TopicAlreadyExists):
		case broker.IsAny(err, kafkago.InvalidTopic, kafkago.InvalidPartitionNumber, kafkago.InvalidConfiguration,
			kafkago.PolicyViolation, kafkago.TopicAuthorizationFailed, kafkago.ClusterAuthorizationFailed):
			return nil, permanentError{fmt.Errorf("create topic %q: %w", topic, err)}
		default: // too few brokers may be up yet for the replication factor, for example
			return nil, fmt.Errorf("create topic %q: %w", topic, err)
		}
	}
	return nil, errCreated
}

// errCreated asks for another look: a topic that was just created has no leaders yet.
var errCreated = errors.New("topics have no leaders yet")

// lookInterval is how often KeepTopics looks whether topics are still there.
const lookInterval = 10 * time.Second

// KeepTopics ensures topics in the background until ctx ends, then returns nil. So a service can start while the broker
// is away, and a topic that is deleted is soon there again. It fails if, at the start, a topic cannot be as it must be
// or endangers messages; what only might endanger them is logged.
func KeepTopics(ctx context.Context, cfg Config, log *slog.Logger, topics ...string) (refused error) {
	ctx, end := context.WithCancel(ctx)
	defer end()
	told, ensured := map[string]bool{}, false
	_ = stage.Loop{Name: "keeping of kafka topics", Log: log, Every: lookInterval,
		Once: func(context.Context) (int, error) {
			warnings, err := ensureTopics(ctx, cfg, topics)
			for _, warning := range warnings {
				if !told[warning] {
					told[warning] = true
					log.Warn("a kafka topic endangers its messages", "problem", warning)
				}
			}
			if !ensured && Permanent(err) {
				refused = err
				end()
			}
			ensured = ensured || err == nil
			return 0, err
		}}.Run(ctx) // which always returns nil
	return refused
}

// HasTopic tells whether a topic exists that this process may see, by metadata that may be some seconds old.
func (p *Producer) HasTopic(ctx context.Context, topic string) (bool, error) {
	_, err := p.pool.Partitions(ctx, topic)
	if broker.IsAny(err, kafkago.UnknownTopicOrPartition, kafkago.InvalidTopic, kafkago.TopicAuthorizationFailed) {
		return false, nil
	}
	return err == nil, err
}
