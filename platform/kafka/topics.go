package kafka

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka/internal/broker"
)

// ensureTimeout bounds EnsureTopics where the caller's context has no deadline.
const ensureTimeout = time.Minute

var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

// ValidTopic tells whether Kafka allows the name; a message to another one is refused for good.
func ValidTopic(name string) bool { return topicName.MatchString(name) && name != "." && name != ".." }

// EnsureTopics creates the topics that do not exist yet, with the configured number of partitions, replicas and
// retention, and returns once each has a leader for all partitions. It waits for brokers that have just been started,
// for at most a minute, and any number of callers may do so at once. A topic that exists is left as it is, but its
// number of partitions must divide the number of lanes, or a partition would not always carry the same lanes, and,
// where there are to be replicas, its settings must not endanger messages that were acknowledged.
func EnsureTopics(ctx context.Context, cfg Config, topics ...string) error {
	_, err := ensureTopics(ctx, cfg, topics)
	return err
}

// ensureTopics also returns what is to be said of topics that are used all the same.
func ensureTopics(ctx context.Context, cfg Config, topics []string) (warnings []string, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("kafka: ensure topics: %w", err)
	}
	if len(topics) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, ensureTimeout)
	defer cancel()
	pool, err := broker.Connect(cfg)
	if err != nil {
		return nil, fmt.Errorf("kafka: ensure topics: %w", err)
	}
	defer pool.Close()
	for failures := 0; ; failures++ {
		warnings, err := ensureOnce(ctx, pool, cfg, topics)
		if err == nil {
			return warnings, nil
		}
		if Permanent(err) || !broker.Backoff(ctx, failures, time.Second) {
			return nil, fmt.Errorf("kafka: ensure topics: %w", err)
		}
		pool.Forget()
	}
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
		request.Topics = append(request.Topics, kafkago.TopicConfig{
			Topic: topic, NumPartitions: cfg.Partitions, ReplicationFactor: cfg.ReplicationFactor,
			ConfigEntries: []kafkago.ConfigEntry{
				{ConfigName: retention, ConfigValue: strconv.FormatInt(cfg.Retention.Milliseconds(), 10)},
				{ConfigName: minInSync, ConfigValue: strconv.Itoa(cfg.LeastInSync())},
				{ConfigName: uncleanElection, ConfigValue: "false"},
			},
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
