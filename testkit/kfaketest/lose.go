package kfaketest

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/altyn-pay/altyn/platform/kafka"
)

// DeleteRecords makes a broker lose everything that a topic has at this moment. It returns how many messages that were, by the
// partitions' offsets.
func DeleteRecords(t testing.TB, cfg kafka.Config, topic string) (lost int64) {
	t.Helper()
	client := client(t, cfg)
	describe := kmsg.NewPtrMetadataRequest()
	describe.Topics = []kmsg.MetadataRequestTopic{{Topic: new(topic)}}
	metadata, err := describe.RequestWith(t.Context(), client)
	// While a broker creates a topic or learns of it, it tells of no partitions.
	for deadline := time.Now().Add(30 * time.Second); err == nil && empty(metadata.Topics) && time.Now().Before(deadline); {
		metadata, err = describe.RequestWith(t.Context(), client)
	}
	if err != nil || empty(metadata.Topics) {
		t.Fatalf("topic %s: %+v, %v", topic, metadata, err)
	}
	starts, ends := kmsg.NewListOffsetsRequestTopic(), kmsg.NewListOffsetsRequestTopic()
	starts.Topic, ends.Topic = topic, topic
	for _, p := range metadata.Topics[0].Partitions {
		start, end := kmsg.NewListOffsetsRequestTopicPartition(), kmsg.NewListOffsetsRequestTopicPartition()
		start.Partition, start.Timestamp, end.Partition, end.Timestamp = p.Partition, -2, p.Partition, -1
		starts.Partitions, ends.Partitions = append(starts.Partitions, start), append(ends.Partitions, end)
	}
	for _, list := range []kmsg.ListOffsetsRequestTopic{starts, ends} {
		request := kmsg.NewPtrListOffsetsRequest()
		request.Topics = append(request.Topics, list)
		listed, err := request.RequestWith(t.Context(), client)
		for deadline := time.Now().Add(30 * time.Second); err == nil && len(listed.Topics) == 0 && time.Now().Before(deadline); {
			listed, err = request.RequestWith(t.Context(), client)
		}
		if err != nil || len(listed.Topics) == 0 {
			t.Fatalf("offsets of %s: %+v, %v", topic, listed, err)
		}
		for _, p := range listed.Topics[0].Partitions {
			if list.Partitions[0].Timestamp == -1 {
				lost += p.Offset
			} else {
				lost -= p.Offset
			}
		}
	}
	request := kmsg.NewPtrDeleteRecordsRequest()
	all := kmsg.NewDeleteRecordsRequestTopic()
	all.Topic = topic
	for _, p := range metadata.Topics[0].Partitions {
		partition := kmsg.NewDeleteRecordsRequestTopicPartition()
		partition.Partition, partition.Offset = p.Partition, -1
		all.Partitions = append(all.Partitions, partition)
	}
	request.Topics = append(request.Topics, all)
	deleted, err := request.RequestWith(t.Context(), client)
	for deadline := time.Now().Add(30 * time.Second); err == nil && len(deleted.Topics) == 0 && time.Now().Before(deadline); {
		deleted, err = request.RequestWith(t.Context(), client)
	}
	if err != nil || len(deleted.Topics) == 0 {
		t.Fatalf("delete the records of %s: %+v, %v", topic, deleted, err)
	}
	for _, p := range deleted.Topics[0].Partitions {
		if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
			t.Fatalf("delete the records of %s/%d: %v", topic, p.Partition, err)
		}
	}
	return lost
}

// DeleteTopic makes a broker lose a topic.
func DeleteTopic(t testing.TB, cfg kafka.Config, topic string) {
	t.Helper()
	request := kmsg.NewPtrDeleteTopicsRequest()
	request.TopicNames = []string{topic}
	request.Topics = []kmsg.DeleteTopicsRequestTopic{{Topic: new(topic)}}
	deleted, err := request.RequestWith(t.Context(), client(t, cfg))
	if err == nil {
		err = kerr.ErrorForCode(deleted.Topics[0].ErrorCode)
	}
	if err != nil {
		t.Fatalf("delete topic %s: %v", topic, err)
	}
}

func empty(topics []kmsg.MetadataResponseTopic) bool {
	return len(topics) == 0 || len(topics[0].Partitions) == 0
}

func client(t testing.TB, cfg kafka.Config) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}
