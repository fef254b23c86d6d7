package group

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

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

// A partition with much does not keep those with little waiting.
func TestPartitionsTakeTurns(t *testing.T) {
	much, little := broker.Partition{Topic: "topic", ID: 0}, broker.Partition{Topic: "topic", ID: 1}
	fetched := func(id broker.Partition, from int64, n, size int) broker.Fetched {
		got := broker.Fetched{Partition: id, From: from, Next: from + int64(n) + 1} // with an end mark
		for i := range n {
			got.Messages = append(got.Messages, broker.Message{
				Topic: id.Topic, Partition: id.ID, Offset: from + int64(i), Value: make([]byte, size),
			})
		}
		return got
	}
	next := map[broker.Partition]int64{little: 70}
	rest := []broker.Fetched{fetched(much, 0, 3000, 0), fetched(little, 70, 3, 0)}
	for len(rest) > 0 {
		var b batch
		b, rest = cut(rest)
		if len(b.messages) == 0 || len(b.messages) > maxBatchMessages {
			t.Fatalf("a batch of %d messages", len(b.messages))
		}
		for _, m := range b.messages {
			id := broker.Partition{Topic: m.Topic, ID: m.Partition}
			if m.Offset != next[id] {
				t.Fatalf("%s: %d instead of %d", id, m.Offset, next[id])
			}
			next[id]++
		}
		if next[little] != 73 {
			t.Errorf("the few of %s are not in the first batch", little)
		}
		for id, after := range b.next {
			if after != next[id] && after != next[id]+1 {
				t.Errorf("%s goes on from %d after %d", id, after, next[id])
			}
		}
	}
	if next[much] != 3000 {
		t.Errorf("%d messages in batches", next[much])
	}
	if b, _ := cut([]broker.Fetched{fetched(much, 0, 8, 900_000)}); len(b.messages) < 2 || len(b.messages) > 5 {
		t.Errorf("%d large messages in a batch", len(b.messages))
	}
	b, rest := cut([]broker.Fetched{fetched(much, 5, 0, 0)})
	if len(b.messages) != 0 || b.next[much] != 6 || len(rest) != 0 {
		t.Errorf("an end mark alone is %v", b)
	}
}
