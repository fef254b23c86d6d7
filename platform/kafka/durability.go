package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka/internal/broker"
	"github.com/altyn-pay/altyn/platform/stage"
)

// The settings of a topic that decide whether an acknowledged message can be lost.
const (
	minInSync       = "min.insync.replicas"
	uncleanElection = "unclean.leader.election.enable"
	cleanup         = "cleanup.policy"
	retention       = "retention.ms"
	retentionBytes  = "retention.bytes"
)

// timestampType is the setting that says whose time a message has, and brokersTime its value where it is the broker's.
// Topics on which anybody writes have that: a token is judged at the time of its message.
const (
	timestampType = "message.timestamp.type"
	brokersTime   = "LogAppendTime"
)

// checkTopics looks for settings that endanger messages. Where KAFKA_REPLICATION_FACTOR asks for replicas, a setting
// that may cost an acknowledged message is a permanent error. Everything else is a warning.
func checkTopics(ctx context.Context, pool *broker.Pool, cfg Config, topics []kafkago.Topic) (
	warnings []string, err error) {
	request := &kafkago.DescribeConfigsRequest{}
	for _, topic := range topics {
		request.Resources = append(request.Resources, kafkago.DescribeConfigRequestResource{
			ResourceType: kafkago.ResourceTypeTopic, ResourceName: topic.Name,
			ConfigNames: []string{minInSync, uncleanElection, cleanup, retention, retentionBytes, timestampType},
		})
	}
	response, err := pool.Client.DescribeConfigs(ctx, request)
	if broker.IsAny(err, kafkago.UnsupportedVersion,
		kafkago.ClusterAuthorizationFailed, kafkago.TopicAuthorizationFailed) {
		return []string{fmt.Sprintf("the settings of the topics cannot be checked: %v", err)}, nil
	}
	if err != nil {
		return nil, err
	}
	settings := map[string]map[string]string{}
	for _, resource := range response.Resources {
		switch {
		case broker.IsAny(resource.Error, kafkago.TopicAuthorizationFailed, kafkago.ClusterAuthorizationFailed):
			warnings = append(warnings, fmt.Sprintf("the settings of topic %q cannot be checked: %v",
				resource.ResourceName, resource.Error))
		case resource.Error != nil:
			return nil, fmt.Errorf("settings of topic %q: %w", resource.ResourceName, resource.Error)
		}
		of := map[string]string{}
		for _, entry := range resource.ConfigEntries {
			of[entry.ConfigName] = entry.ConfigValue
		}
		settings[resource.ResourceName] = of
	}
	var refused []string
	for _, topic := range topics {
		replicas := len(topic.Partitions[0].Replicas)
		for _, partition := range topic.Partitions {
			replicas = min(replicas, len(partition.Replicas))
		}
		to := func(list *[]string) func(format string, args ...any) {
			return func(format string, args ...any) {
				*list = append(*list, fmt.Sprintf("topic %q: ", topic.Name)+fmt.Sprintf(format, args...))
			}
		}
		dangers(cfg, replicas, settings[topic.Name], to(&refused), to(&warnings))
	}
	late, err := setBrokersTime(ctx, pool, settings)
	if err != nil {
		return nil, err
	}
	warnings = append(warnings, late...)
	if len(refused) > 0 && cfg.ReplicationFactor > 1 {
		return nil, permanentError{fmt.Errorf(
			"messages that were acknowledged may be lost, and KAFKA_REPLICATION_FACTOR=%d says that none shall be: %s",
			cfg.ReplicationFactor, strings.Join(refused, "; "))}
	}
	return append(refused, warnings...), nil
}

// setBrokersTime gives the topics on which anybody writes the broker's time where they have another one, as those of
// earlier versions do. A refusal is a warning: AwaitBrokersTime keeps whoever depends on it from reading them.
func setBrokersTime(ctx context.Context, pool *broker.Pool, settings map[string]map[string]string) (
	warnings []string, err error) {
	request := &kafkago.IncrementalAlterConfigsRequest{}
	for topic, of := range settings {
		if value, known := of[timestampType]; contract.FromAnyone(topic) && known && value != brokersTime {
			request.Resources = append(request.Resources, kafkago.IncrementalAlterConfigsRequestResource{
				ResourceType: kafkago.ResourceTypeTopic, ResourceName: topic,
				Configs: []kafkago.IncrementalAlterConfigsRequestConfig{{
					Name: timestampType, Value: brokersTime, ConfigOperation: kafkago.ConfigOperationSet,
				}},
			})
		}
	}
	if len(request.Resources) == 0 {
		return nil, nil
	}
	refused := func(topic string, err error) {
		warnings = append(warnings, fmt.Sprintf("topic %q: %s must be %s, and cannot be set: %v",
			topic, timestampType, brokersTime, err))
	}
	response, err := pool.Client.IncrementalAlterConfigs(ctx, request)
	if broker.IsAny(err, kafkago.UnsupportedVersion) {
		for _, resource := range request.Resources {
			refused(resource.ResourceName, err)
		}
		return warnings, nil
	}
	if err != nil {
		return nil, err
	}
	for _, resource := range response.Resources {
		if resource.Error != nil {
			refused(resource.ResourceName, resource.Error)
		}
	}
	return warnings, nil
}

// AwaitBrokersTime returns once the messages of these topics get the broker's time, which KeepTopics sees to, or ctx
// ends. It says once what it waits for.
func AwaitBrokersTime(ctx context.Context, cfg Config, log *slog.Logger, topics ...string) error {
	pool, err := broker.Connect(cfg, log)
	if err != nil {
		return fmt.Errorf("kafka: %w", err)
	}
	defer pool.Close()
	for said := false; ; {
		err := checkBrokersTime(ctx, pool, topics)
		if err == nil || ctx.Err() != nil {
			return nil
		}
		if !said {
			said = true
			log.Warn("nothing is read until messages get the broker's time", "topics", topics, "problem", err)
		}
		stage.Wait(ctx, time.Second)
	}
}

func checkBrokersTime(ctx context.Context, pool *broker.Pool, topics []string) error {
	request := &kafkago.DescribeConfigsRequest{}
	for _, topic := range topics {
		request.Resources = append(request.Resources, kafkago.DescribeConfigRequestResource{
			ResourceType: kafkago.ResourceTypeTopic, ResourceName: topic, ConfigNames: []string{timestampType},
		})
	}
	response, err := pool.Client.DescribeConfigs(ctx, request)
	if err != nil {
		return err
	}
	for _, resource := range response.Resources {
		is := ""
		for _, entry := range resource.ConfigEntries {
			is = entry.ConfigValue
		}
		switch {
		case resource.Error != nil:
			return fmt.Errorf("topic %q: %w", resource.ResourceName, resource.Error)
		case is != brokersTime:
			return fmt.Errorf("topic %q: %s is %q, not %s", resource.ResourceName, timestampType, is, brokersTime)
		}
	}
	return nil
}

// dangers tells what is wrong with a topic whose partitions have so many replicas: endanger gets what may cost an
// acknowledged message when a broker fails or the topic is cleaned, note what else an operator should know. That a
// single broker has no replicas is neither.
func dangers(cfg Config, replicas int, settings map[string]string, endanger, note func(format string, args ...any)) {
	number := func(name string) (n int64, known bool) {
		n, err := strconv.ParseInt(settings[name], 10, 64)
		return n, err == nil
	}
	wanted := cfg.LeastInSync()
	if replicas < wanted {
		endanger("a partition has %d replicas, and %d brokers are to have each message", replicas, wanted)
	} else if replicas < cfg.ReplicationFactor {
		note("a partition has %d replicas, not %d", replicas, cfg.ReplicationFactor)
	}
	if n, known := number(minInSync); known {
		switch least := int64(max(wanted, min(2, replicas))); {
		case n < least:
			endanger("%s is %d, so that a message counts which too few brokers have; it must be %d at least",
				minInSync, n, least)
		case n > int64(replicas):
			endanger("%s is %d, but a partition has %d replicas: nothing can be written", minInSync, n, replicas)
		}
	}
	if settings[uncleanElection] == "true" {
		endanger("%s is true, so that a broker may lead which lacks messages; it must be false", uncleanElection)
	}
	if policy := settings[cleanup]; strings.Contains(policy, "compact") {
		endanger("%s is %s, so that of a key's messages only the last one is kept; it must be delete", cleanup, policy)
	}
	if ms, known := number(retention); known && ms >= 0 && ms < cfg.Retention.Milliseconds() {
		note("%s is %d, less than KAFKA_RETENTION=%s: what is not read by then is lost", retention, ms, cfg.Retention)
	}
	if n, known := number(retentionBytes); known && n >= 0 {
		note("%s is %d: what is not read before so much has come is lost", retentionBytes, n)
	}
}
