package kfaketest

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/altyn-pay/altyn/platform/kafka"
)

// DeleteRecords makes a broker lose everything that a topic has at this moment. It returns how many messages that were, by
// the partitions' offsets.
func DeleteRecords(t testing.TB, cfg kafka.Config, topic string) (lost int64) {
	t.Helper()
	client := client(t, cfg)
	describe := kmsg.NewPtrMetadataRequest()
	describe.Topics = []kmsg.MetadataRequestTopic{{Topic: new(topic)}}
	partitions := ask(t, client, describe.RequestWith, func(r *kmsg.MetadataResponse) []kmsg.MetadataResponseTopicPartition {
		if len(r.Topics) == 0 {
			return nil
		}
		return r.Topics[0].Partitions
	})
	lost = offsets(t, client, topic, len(partitions), latest) - offsets(t, client, topic, len(partitions), earliest)

	request := kmsg.NewPtrDeleteRecordsRequest()
	all := kmsg.NewDeleteRecordsRequestTopic()
	all.Topic = topic
	for id := range int32(len(partitions)) {
		partition := kmsg.NewDeleteRecordsRequestTopicPartition()
		partition.Partition, partition.Offset = id, -1
		all.Partitions = append(all.Partitions, partition)
	}
	request.Topics = append(request.Topics, all)
	deleted := ask(t, client, request.RequestWith,
		func(r *kmsg.DeleteRecordsResponse) []kmsg.DeleteRecordsResponseTopic { return r.Topics })
	for _, p := range deleted[0].Partitions {
		if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
			t.Fatalf("delete the records of %s/%d: %v", topic, p.Partition, err)
		}
	}
	return lost
}

// The times that stand for the ends of a partition.
const (
	latest   = -1
	earliest = -2
)

// offsets is the sum of the offsets of a topic's partitions.
func offsets(t testing.TB, client *kgo.Client, topic string, partitions int, at int64) (sum int64) {
	t.Helper()
	list := kmsg.NewListOffsetsRequestTopic()
	list.Topic = topic
	for id := range int32(partitions) {
		partition := kmsg.NewListOffsetsRequestTopicPartition()
		partition.Partition, partition.Timestamp = id, at
		list.Partitions = append(list.Partitions, partition)
	}
	request := kmsg.NewPtrListOffsetsRequest()
	request.Topics = append(request.Topics, list)
	listed := ask(t, client, request.RequestWith,
		func(r *kmsg.ListOffsetsResponse) []kmsg.ListOffsetsResponseTopic { return r.Topics })
	for _, p := range listed[0].Partitions {
		sum += p.Offset
	}
	return sum
}

// ask repeats a request until its answer has something: a broker that creates a topic, or learns of it, tells of nothing.
func ask[R, T any](t testing.TB, client *kgo.Client, request func(context.Context, kmsg.Requestor) (R, error),
	of func(R) []T) []T {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		response, err := request(t.Context(), client)
		if err != nil {
			t.Fatal(err)
		}
		if list := of(response); len(list) > 0 {
			return list
		}
		if time.Now().After(deadline) {
			t.Fatalf("the answer is still %+v", response)
		}
	}
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

func client(t testing.TB, cfg kafka.Config) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}
