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
)

// ensureTimeout bounds EnsureTopics where the caller's context has no deadline.
const ensureTimeout = time.Minute

var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

// ValidTopic tells whether Kafka allows the name; a message to another one is refused for good.
func ValidTopic(name string) bool { return topicName.MatchString(name) && name != "." && name != ".." }

func dividesLanes(partitions int) bool { return partitions > 0 && contract.Lanes%partitions == 0 }

// EnsureTopics creates the topics that do not exist yet, with the configured number of partitions, replicas and
// retention, and returns once each has a leader for all partitions. It waits for brokers that have just been started,
// for at most a minute, and any number of callers may do so at once. A topic that exists is left as it is, but its
// number of partitions must divide the number of lanes, or a partition would not always carry the same lanes.
func EnsureTopics(ctx context.Context, cfg Config, topics ...string) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("kafka: ensure topics: %w", err)
	}
	if len(topics) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, ensureTimeout)
	defer cancel()
	cluster, err := cfg.connect()
	if err != nil {
		return fmt.Errorf("kafka: ensure topics: %w", err)
	}
	defer cluster.close()
	for failures := 0; ; failures++ {
		err := cluster.ensureTopics(ctx, cfg, topics)
		if err == nil {
			return nil
		}
		if Permanent(err) || !backoff(ctx, failures, time.Second) {
			return fmt.Errorf("kafka: ensure topics: %w", err)
		}
		cluster.forget()
	}
}

func (c *cluster) ensureTopics(ctx context.Context, cfg Config, topics []string) error {
	metadata, err := c.client.Metadata(ctx, &kafkago.MetadataRequest{Topics: topics})
	if err != nil {
		return err
	}
	missing := slices.Clone(topics)
	for _, topic := range metadata.Topics {
		switch {
		case errors.Is(topic.Error, kafkago.UnknownTopicOrPartition):
			continue
		case topic.Error != nil:
			return fmt.Errorf("topic %q: %w", topic.Name, topic.Error)
		case !dividesLanes(len(topic.Partitions)):
			return permanentError{fmt.Errorf("topic %q has %d partitions, which does not divide %d",
				topic.Name, len(topic.Partitions), contract.Lanes)}
		}
		for _, partition := range topic.Partitions {
			if partition.Error != nil {
				return fmt.Errorf("topic %q partition %d: %w", topic.Name, partition.ID, partition.Error)
			}
		}
		missing = slices.DeleteFunc(missing, func(name string) bool { return name == topic.Name })
	}
	if len(missing) == 0 {
		return nil
	}
	request := &kafkago.CreateTopicsRequest{}
	for _, topic := range missing {
		request.Topics = append(request.Topics, kafkago.TopicConfig{
			Topic: topic, NumPartitions: cfg.Partitions, ReplicationFactor: cfg.ReplicationFactor,
			ConfigEntries: []kafkago.ConfigEntry{
				{ConfigName: "retention.ms", ConfigValue: strconv.FormatInt(cfg.Retention.Milliseconds(), 10)},
			},
		})
	}
	response, err := c.client.CreateTopics(ctx, request)
	if err != nil {
		return err
	}
	for topic, err := range response.Errors {
		switch {
		case err == nil, errors.Is(err, kafkago.TopicAlreadyExists):
		case isAny(err, kafkago.InvalidTopic, kafkago.InvalidPartitionNumber, kafkago.InvalidConfiguration, kafkago.PolicyViolation,
			kafkago.TopicAuthorizationFailed, kafkago.ClusterAuthorizationFailed):
			return permanentError{fmt.Errorf("create topic %q: %w", topic, err)}
		default: // too few brokers may be up yet for the replication factor, for example
			return fmt.Errorf("create topic %q: %w", topic, err)
		}
	}
	return errCreated
}

// errCreated asks for another look: a topic that was just created has no leaders yet.
var errCreated = errors.New("topics have no leaders yet")
