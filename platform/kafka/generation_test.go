package kafka

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestOutlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, end := context.WithCancel(t.Context())
		ctx, done := outlive(parent, handleGrace)
		defer done()
		<-time.After(time.Hour) // of the bubble's clock
		end()
		<-time.After(handleGrace - 1)
		synctest.Wait()
		if ctx.Err() != nil {
			t.Error("ended before the grace was over")
		}
		<-time.After(time.Nanosecond)
		synctest.Wait()
		if ctx.Err() == nil {
			t.Error("outlived the grace")
		}
	})
}

func TestOutliveEndsEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, end := context.WithCancel(t.Context())
		ctx, done := outlive(parent, handleGrace)
		end()
		synctest.Wait()
		done()
		synctest.Wait() // a goroutine that stays would be a deadlock of the bubble
		if ctx.Err() == nil {
			t.Error("not ended")
		}
	})
}

// A partition with much does not keep those with little waiting, and has room again once enough of it was taken.
func TestPartitionsTakeTurns(t *testing.T) {
	cfg := Config{Brokers: []string{"127.0.0.1:1"}, Partitions: 4, ReplicationFactor: 1, Retention: time.Hour}
	consumer, err := NewConsumer(cfg, "group", []string{"topic"}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	much, little := topicPartition{"topic", 0}, topicPartition{"topic", 1}
	g := newGeneration(consumer, nil, assignment{offsets: map[topicPartition]int64{much: 0, little: -1}}, newTroubles(consumer.log), nil)
	arrive := func(id topicPartition, from int64, n int) {
		got := fetched{from: from, next: from + int64(n), end: 5000}
		for i := range n {
			got.messages = append(got.messages, Message{Topic: id.topic, Partition: id.id, Offset: from + int64(i)})
		}
		g.accept(g.partitions[id].source, got)
		g.partitions[id].next = got.next
	}
	full := func(id topicPartition) bool { return g.full(g.partitions[id].source) }

	arrive(much, 0, maxWaitingMessages-1)
	if full(much) {
		t.Error("full before its time")
	}
	arrive(much, maxWaitingMessages-1, 3001-maxWaitingMessages)
	arrive(little, 70, 3)
	if g.partitions[little].handled.Load() != 70 {
		t.Error("what was found to be the first offset is not that to be handled next")
	}
	next := map[topicPartition]int64{little: 70}
	for batches := 0; next[much] < 3000; batches++ {
		if !full(much) && next[much] <= 3000-maxWaitingMessages || full(little) {
			t.Errorf("after %d batches: full %t and %t", batches, full(much), full(little))
		}
		batch := g.take()
		if len(batch) == 0 || len(batch) > maxBatchMessages {
			t.Fatalf("a batch of %d messages", len(batch))
		}
		for _, m := range batch {
			id := topicPartition{m.Topic, m.Partition}
			if m.Offset != next[id] {
				t.Fatalf("%s: %d instead of %d", id, m.Offset, next[id])
			}
			next[id]++
		}
		if next[little] != 73 {
			t.Errorf("the few of %s are not in the first batch", little)
		}
		select {
		case <-g.room:
		default:
			if next[much] < 2500 {
				t.Error("nobody is told that there is room")
			}
		}
	}
	if full(much) || len(g.take()) != 0 || g.partitions[much].waitingBytes != 0 {
		t.Error("something is left")
	}
	for i := range 8 { // large ones
		g.accept(g.partitions[much].source, fetched{from: int64(3000 + i), messages: []Message{{Topic: "topic", Offset: int64(3000 + i), Value: make([]byte, 900_000)}}, end: 5000})
	}
	if batch := g.take(); !full(much) || len(batch) < 2 || len(batch) > 5 {
		t.Errorf("%d large messages in a batch", len(batch))
	}
}
