package inspect_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	kafkago "github.com/segmentio/kafka-go"

	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/testkit/kfaketest"
)

func TestBacklogIsHandledOnceUpToItsEnd(t *testing.T) {
	kfaketest.Brokers(t, func(t *testing.T, cfg kafka.Config) {
		one, other, producer := kfaketest.Topic(t, cfg), kfaketest.Topic(t, cfg)+"-b", kfaketest.Producer(t, cfg)
		kfaketest.Ensure(t, cfg, other)
		kfaketest.Produce(t, producer,
			append(kfaketest.Messages(one, 0, 5000, 20), kfaketest.Messages(other, 0, 10, 3)...)...)
		b := kfaketest.Backlog(t, cfg, one, one, other, "missing")
		kfaketest.Produce(t, producer, kfaketest.Messages(one, 5000, 100, 20)...) // too late
		if b.Len() != 5010 {
			t.Errorf("%d messages", b.Len())
		}
		got := kfaketest.Handled(t, b)
		if len(got) != 5010 {
			t.Errorf("handled %d messages", len(got))
		}
		kfaketest.InOrder(t, got)

		b = kfaketest.Backlog(t, cfg, one, one, other)
		if b.Len() != 100 {
			t.Errorf("then %d messages", b.Len())
		}
		seen := map[bool]int{}
		if err := b.Look(t.Context(), func(_ kafka.Message, handled bool) {
			seen[handled]++
		}); err != nil || seen[true] != 5010 || seen[false] != 100 {
			t.Errorf("seen %v, %v", seen, err)
		}
		if got := kfaketest.Handled(t, b); len(got) != 100 || string(got[0].Value) < "5" {
			t.Errorf("then handled %d messages", len(got))
		}
		b = kfaketest.Backlog(t, cfg, one, one, other)
		if got := kfaketest.Handled(t, b); len(got) != 0 || b.Len() != 0 {
			t.Errorf("in the end %d of %d", len(got), b.Len())
		}
		if other := kfaketest.Backlog(t, cfg, one+"-group", one); other.Len() != 5100 {
			t.Errorf("for another group %d", other.Len())
		}
	})
}

// What fails comes again, and what came before it does not.
func TestBacklogGoesOnWhereItFailed(t *testing.T) {
	cfg := kfaketest.Broker(t)
	topic, producer := kfaketest.Topic(t, cfg), kfaketest.Producer(t, cfg)
	kfaketest.Produce(t, producer, kfaketest.Messages(topic, 0, 3000, 1)...)
	b := kfaketest.Backlog(t, cfg, topic, topic)
	batches, fault := 0, errors.New("cannot")
	err := b.Handle(t.Context(), func(context.Context, []kafka.Message) error {
		if batches++; batches == 2 {
			return fault
		}
		return nil
	})
	if !errors.Is(err, fault) || batches != 2 {
		t.Errorf("after %d batches: %v", batches, err)
	}
	again := kfaketest.Backlog(t, cfg, topic, topic)
	got := kfaketest.Handled(t, again)
	if len(got) == 0 || len(got) >= 3000 || string(got[len(got)-1].Value) != "2999" ||
		string(got[0].Value) != fmt.Sprint(3000-len(got)) {
		t.Errorf("handled %d more", len(got))
	}
}

// The end of its context ends it behind a batch that is committed.
func TestBacklogIsInterrupted(t *testing.T) {
	cfg := kfaketest.Broker(t)
	topic, producer := kfaketest.Topic(t, cfg), kfaketest.Producer(t, cfg)
	kfaketest.Produce(t, producer, kfaketest.Messages(topic, 0, 2500, 1)...)
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	err := kfaketest.Backlog(t, cfg, topic, topic).Handle(ctx, func(ctx context.Context, messages []kafka.Message) error {
		cancel()
		n += len(messages)
		return ctx.Err()
	})
	if !errors.Is(err, context.Canceled) || n == 0 || n > 1000 {
		t.Errorf("after %d: %v", n, err)
	}
	if left := kfaketest.Backlog(t, cfg, topic, topic).Len(); left != int64(2500-n) {
		t.Errorf("handled %d, and %d are left", n, left)
	}
}

// A group whose offset is beyond the end has read a topic that was deleted and made again.
func TestBacklogOfATopicMadeAgain(t *testing.T) {
	cfg := kfaketest.Broker(t)
	topic, producer := kfaketest.Topic(t, cfg), kfaketest.Producer(t, cfg)
	kfaketest.Produce(t, producer, kfaketest.Messages(topic, 0, 3, 1)...)
	offsets := make([]kafkago.OffsetCommit, cfg.Partitions)
	for id := range offsets {
		offsets[id] = kafkago.OffsetCommit{Partition: id, Offset: 100}
	}
	client := kafkago.Client{Addr: kafkago.TCP(cfg.Brokers...), Transport: &kafkago.Transport{}}
	defer client.Transport.(*kafkago.Transport).CloseIdleConnections()
	if _, err := client.OffsetCommit(t.Context(), &kafkago.OffsetCommitRequest{
		GroupID: topic, GenerationID: -1, Topics: map[string][]kafkago.OffsetCommit{topic: offsets}}); err != nil {
		t.Fatal(err)
	}
	b := kfaketest.Backlog(t, cfg, topic, topic)
	if got := kfaketest.Handled(t, b); len(got) != 3 || kfaketest.Backlog(t, cfg, topic, topic).Len() != 0 {
		t.Errorf("handled %d of %d messages", len(got), b.Len())
	}
}

// A group that goes back reads again what the broker has got since then, and that alone; one with members does not go
// back.
func TestAGroupGoesBack(t *testing.T) {
	kfaketest.Brokers(t, func(t *testing.T, cfg kafka.Config) {
		topic, producer := kfaketest.Topic(t, cfg), kfaketest.Producer(t, cfg)
		messages := kfaketest.Messages(topic, 0, 300, 20)
		began := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
		for i := range messages {
			messages[i].Time = began.Add(time.Duration(i) * time.Second)
		}
		kfaketest.Produce(t, producer, messages...)
		rewind := func(to time.Time) (int64, error) {
			return kfaketest.Backlog(t, cfg, topic, topic).Rewind(t.Context(), to)
		}
		if n, err := rewind(began); n != 0 || err != nil { // it has handled nothing yet
			t.Errorf("%d, %v", n, err)
		}
		kfaketest.Handled(t, kfaketest.Backlog(t, cfg, topic, topic))
		if n, err := rewind(time.Now()); n != 0 || err != nil {
			t.Errorf("behind the end: %d, %v", n, err)
		}
		if n, err := rewind(messages[250].Time); n != 50 || err != nil {
			t.Errorf("by 50: %d, %v", n, err)
		}
		if n, err := rewind(messages[280].Time); n != 0 || err != nil { // it is further back already
			t.Errorf("forward: %d, %v", n, err)
		}
		got := kfaketest.Handled(t, kfaketest.Backlog(t, cfg, topic, topic))
		if len(got) != 50 {
			t.Errorf("%d are handled again", len(got))
		}
		for _, m := range got {
			if m.Time.Before(messages[250].Time) {
				t.Errorf("%s of %s is handled again", m.Value, m.Time)
			}
		}

		fresh := kfaketest.Backlog(t, cfg, topic+"-fresh", topic)
		if err := fresh.Seek(t.Context(), messages[290].Time); err != nil || fresh.Len() != 10 {
			t.Errorf("a group that begins at a time has to handle %d, %v", fresh.Len(), err)
		}
		if err := fresh.Seek(t.Context(), began); err != nil || fresh.Len() != 300 {
			t.Errorf("and from the begin on %d, %v", fresh.Len(), err)
		}

		ctx, cancel := context.WithCancel(t.Context())
		joined, done := make(chan struct{}), make(chan error, 1)
		consumer, err := kafka.NewConsumer(cfg, topic, []string{topic}, slog.New(slog.DiscardHandler),
			prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			done <- consumer.Run(ctx, func(context.Context, []kafka.Message) error {
				select {
				case joined <- struct{}{}:
				case <-ctx.Done():
				}
				return nil
			})
		}()
		kfaketest.Produce(t, producer, kfaketest.Messages(topic, 300, 1, 1)...)
		<-joined
		if n, err := rewind(began); err == nil {
			t.Errorf("with a member the group goes back by %d", n)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
