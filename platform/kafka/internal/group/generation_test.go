package group

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/kafka/internal/broker"
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
	metrics := []string{"group", "topic", "partition"}
	group := &Group{
		Name: "group", Topics: []string{"topic"}, Log: slog.New(slog.DiscardHandler),
		Lag: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "lag"}, metrics),
	}
	much, little := broker.Partition{Topic: "topic", ID: 0}, broker.Partition{Topic: "topic", ID: 1}
	assigned := assignment{offsets: map[broker.Partition]int64{much: 0, little: -1}}
	g := newGeneration(group, nil, assigned, broker.NewOutages(group.Log), nil)
	arrive := func(id broker.Partition, from int64, n int) {
		got := broker.Fetched{From: from, Next: from + int64(n), End: 5000}
		for i := range n {
			got.Messages = append(got.Messages, broker.Message{Topic: id.Topic, Partition: id.ID, Offset: from + int64(i)})
		}
		g.accept(g.partitions[id].Source, got)
		g.partitions[id].Next = got.Next
	}
	full := func(id broker.Partition) bool { return g.full(g.partitions[id].Source) }

	arrive(much, 0, maxWaitingMessages-1)
	if full(much) {
		t.Error("full before its time")
	}
	arrive(much, maxWaitingMessages-1, 3001-maxWaitingMessages)
	arrive(little, 70, 3)
	if g.partitions[little].handled.Load() != 70 {
		t.Error("what was found to be the first offset is not that to be handled next")
	}
	next := map[broker.Partition]int64{little: 70}
	for batches := 0; next[much] < 3000; batches++ {
		if !full(much) && next[much] <= 3000-maxWaitingMessages || full(little) {
			t.Errorf("after %d batches: full %t and %t", batches, full(much), full(little))
		}
		batch := g.take()
		if len(batch) == 0 || len(batch) > maxBatchMessages {
			t.Fatalf("a batch of %d messages", len(batch))
		}
		for _, m := range batch {
			id := broker.Partition{Topic: m.Topic, ID: m.Partition}
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
		g.accept(g.partitions[much].Source,
			broker.Fetched{From: int64(3000 + i),
				Messages: []broker.Message{{Topic: "topic", Offset: int64(3000 + i), Value: make([]byte, 900_000)}}, End: 5000})
	}
	if batch := g.take(); !full(much) || len(batch) < 2 || len(batch) > 5 {
		t.Errorf("%d large messages in a batch", len(batch))
	}
}
