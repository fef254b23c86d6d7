package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/kafka/inspect"
	"github.com/altyn-pay/altyn/testkit/kfaketest"
)

func openBacklog(t *testing.T, cfg kafka.Config, group string, topics ...string) *inspect.Backlog {
	t.Helper()
	b, err := inspect.OpenBacklog(t.Context(), cfg, group, topics...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// handled are the messages that a backlog hands over.
func handled(t *testing.T, b *inspect.Backlog) (got []kafka.Message) {
	t.Helper()
	if err := b.Handle(t.Context(), func(_ context.Context, messages []kafka.Message) error {
		if len(messages) == 0 || len(messages) > 1000 {
			t.Errorf("a batch of %d", len(messages))
		}
		got = append(got, messages...)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestBacklogIsHandledOnceUpToItsEnd(t *testing.T) {
	brokers(t, func(t *testing.T, cfg kafka.Config) {
		one, other, producer := newTopic(t, cfg), newTopic(t, cfg)+"-b", newProducer(t, cfg)
		ensure(t, cfg, other)
		produce(t, producer, append(messages(one, 0, 5000, 20), messages(other, 0, 10, 3)...)...)
		b := openBacklog(t, cfg, one, one, other, "missing")
		produce(t, producer, messages(one, 5000, 100, 20)...) // too late
		if b.Len() != 5010 {
			t.Errorf("%d messages", b.Len())
		}
		got := handled(t, b)
		if len(got) != 5010 {
			t.Errorf("handled %d messages", len(got))
		}
		inOrder(t, got)

		b = openBacklog(t, cfg, one, one, other)
		if b.Len() != 100 {
			t.Errorf("then %d messages", b.Len())
		}
		seen := map[bool]int{}
		if err := b.Look(t.Context(), func(_ kafka.Message, handled bool) { seen[handled]++ }); err != nil || seen[true] != 5010 || seen[false] != 100 {
			t.Errorf("seen %v, %v", seen, err)
		}
		if got := handled(t, b); len(got) != 100 || string(got[0].Value) < "5" {
			t.Errorf("then handled %d messages", len(got))
		}
		b = openBacklog(t, cfg, one, one, other)
		if got := handled(t, b); len(got) != 0 || b.Len() != 0 {
			t.Errorf("in the end %d of %d", len(got), b.Len())
		}
		if other := openBacklog(t, cfg, one+"-group", one); other.Len() != 5100 {
			t.Errorf("for another group %d", other.Len())
		}
	})
}

// What fails comes again, and what came before it does not.
func TestBacklogGoesOnWhereItFailed(t *testing.T) {
	cfg := kfaketest.Broker(t)
	topic, producer := newTopic(t, cfg), newProducer(t, cfg)
	produce(t, producer, messages(topic, 0, 3000, 1)...)
	b := openBacklog(t, cfg, topic, topic)
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
	again := openBacklog(t, cfg, topic, topic)
	got := handled(t, again)
	if len(got) == 0 || len(got) >= 3000 || string(got[len(got)-1].Value) != "2999" || string(got[0].Value) != fmt.Sprint(3000-len(got)) {
		t.Errorf("handled %d more", len(got))
	}
}

// Of two at the same time the later one goes on and the earlier one ends with an error; nothing is left.
func TestBacklogGivesWay(t *testing.T) {
	brokers(t, func(t *testing.T, cfg kafka.Config) {
		topic, producer := newTopic(t, cfg), newProducer(t, cfg)
		produce(t, producer, messages(topic, 0, 4, 1)...)
		first, second := openBacklog(t, cfg, topic, topic), openBacklog(t, cfg, topic, topic)
		begun := make(chan struct{})
		ended := make(chan error, 1)
		go func() {
			ended <- first.Handle(t.Context(), func(ctx context.Context, _ []kafka.Message) error {
				close(begun)
				<-ctx.Done() // until it is told
				return ctx.Err()
			})
		}()
		<-begun
		if got := handled(t, second); len(got) != 4 {
			t.Errorf("the second one handled %d", len(got))
		}
		if err := <-ended; err == nil || !strings.Contains(err.Error(), "another one") {
			t.Errorf("the first one: %v", err)
		}
	})
}

// The end of its context ends it behind a batch that is committed.
func TestBacklogIsInterrupted(t *testing.T) {
	cfg := kfaketest.Broker(t)
	topic, producer := newTopic(t, cfg), newProducer(t, cfg)
	produce(t, producer, messages(topic, 0, 2500, 1)...)
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	err := openBacklog(t, cfg, topic, topic).Handle(ctx, func(ctx context.Context, messages []kafka.Message) error {
		cancel()
		n += len(messages)
		return ctx.Err()
	})
	if !errors.Is(err, context.Canceled) || n == 0 || n > 1000 {
		t.Errorf("after %d: %v", n, err)
	}
	if left := openBacklog(t, cfg, topic, topic).Len(); left != int64(2500-n) {
		t.Errorf("handled %d, and %d are left", n, left)
	}
}

// A group whose offset is beyond the end has read a topic that was deleted and made again.
func TestBacklogOfATopicMadeAgain(t *testing.T) {
	cfg := kfaketest.Broker(t)
	topic, producer := newTopic(t, cfg), newProducer(t, cfg)
	produce(t, producer, messages(topic, 0, 3, 1)...)
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
	b := openBacklog(t, cfg, topic, topic)
	if got := handled(t, b); len(got) != 3 || openBacklog(t, cfg, topic, topic).Len() != 0 {
		t.Errorf("handled %d of %d messages", len(got), b.Len())
	}
}

func TestOriginal(t *testing.T) {
	m := kafka.Message{Topic: "orders", Partition: 3, Offset: 7, Key: []byte("key"), Value: []byte("{"),
		Headers: []kafka.Header{{Key: "ce_id", Value: []byte("1")}, {Key: "empty"}, {Key: "ce_id", Value: []byte("2")}}, Time: time.Now()}
	want := m
	want.Partition, want.Offset, want.Time = 0, 0, time.Time{}
	dead := kafka.DeadLetter(m, "not JSON")
	if got, ok := kafka.Original(dead); !ok || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %t; want %+v", got, ok, want)
	}
	m.Value = make([]byte, kafka.MaxMessageBytes)
	for name, dead := range map[string]kafka.Message{"a cut one": kafka.DeadLetter(m, "too large"), "no dead letter": want} {
		if got, ok := kafka.Original(dead); ok {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
