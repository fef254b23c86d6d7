package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/testkit/kfaketest"
)

// letters makes n messages that cannot be read, of two keys, with their reasons.
func letters(n int) (list []kafka.Message, reasons []error) {
	for i := range n {
		list = append(list, kafka.Message{Topic: "orders", Offset: int64(i), Key: fmt.Appendf(nil, "key-%d", i%2),
			Value: fmt.Append(nil, i)})
		reasons = append(reasons, fmt.Errorf("reason %d", i))
	}
	return list, reasons
}

func TestDeadLettersAreKeptOnce(t *testing.T) {
	for name, test := range map[string]struct {
		fault  kfake.Fault
		parked int
	}{
		"no trouble":  {},
		"for a while": {fault: kfake.Fault{Err: kerr.NotEnoughReplicas, Count: 5}},
		"one partition": {fault: kfake.Fault{Err: kerr.NotEnoughReplicas, Count: 5,
			Partitions: []int32{int32(partitionOf(kafka.Message{Key: []byte("key-1")}))}}},
		"one partition never": {fault: kfake.Fault{Err: kerr.InvalidRecord, Count: -1,
			Partitions: []int32{int32(partitionOf(kafka.Message{Key: []byte("key-1")}))}}, parked: 5},
		"never":                            {fault: kfake.Fault{Err: kerr.InvalidRecord, Count: -1}, parked: 10},
		"for longer than it is waited for": {fault: kfake.Fault{Err: kerr.TopicAuthorizationFailed, Count: -1}, parked: 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, cluster := kfaketest.Cluster(t)
			kfaketest.Ensure(t, cfg, "orders.dlq")
			if test.fault.Err != nil {
				test.fault.Keys, test.fault.Topic = []kmsg.Key{kmsg.Produce}, "orders.dlq"
				cluster.Fault(test.fault)
			}
			list, reasons := letters(10)
			var parked []int64
			calls := 0 // of the place where they are parked, of which two fail
			if err := kfaketest.Producer(t, cfg).DeadLetters(t.Context(), list, reasons,
				func(_ context.Context, messages []kafka.Message, reasons []error) error {
					if calls++; calls <= 2 {
						return errors.New("no database")
					}
					for i, m := range messages {
						parked = append(parked, m.Offset)
						if text := reasons[i].Error(); !strings.HasPrefix(text, fmt.Sprintf("reason %d; no dead letter: ", m.Offset)) {
							t.Errorf("%d is parked because of %q", m.Offset, text)
						}
					}
					return nil
				}); err != nil {
				t.Fatal(err)
			}
			if test.fault.Err == kerr.TopicAuthorizationFailed && calls != 3 {
				t.Errorf("parked in %d calls, though all were refused alike", calls-2)
			}
			kept := map[string]int{}
			backlog := kfaketest.Backlog(t, cfg, "test", "orders.dlq")
			if err := backlog.Look(t.Context(), func(m kafka.Message, _ bool) { kept[m.Header("dlq_offset")]++ }); err != nil {
				t.Fatal(err)
			}
			for _, offset := range parked {
				kept[fmt.Sprint(offset)]++
			}
			if len(parked) != test.parked || len(kept) != 10 {
				t.Errorf("%d are parked, kept are %v", len(parked), kept)
			}
			for offset, times := range kept {
				if times != 1 {
					t.Errorf("%s is kept %d times", offset, times)
				}
			}
		})
	}
}

func TestReadTurnsAPanicIntoAReason(t *testing.T) {
	var panicked *kafka.PanicError
	if err := kafka.Read(kafka.Message{}, func() error {
		panic("oh")
	}); !errors.As(err, &panicked) || !strings.Contains(err.Error(), "oh") || len(panicked.Stack) == 0 {
		t.Errorf("%v", err)
	}
	if err := kafka.Read(kafka.Message{}, func() error { return nil }); err != nil {
		t.Error(err)
	}
}

// Whatever an error says, the reason is one line of valid text.
func TestReasonsAreReadable(t *testing.T) {
	for _, text := range []string{
		"", " ", "\x00", "a\nb\tc", "\xff\xfe", strings.Repeat("ж", 5000), strings.Repeat("x", 999) + "ж",
		"\u202eright to left", "  spaces  ",
	} {
		reason := kafka.DeadLetter(kafka.Message{Topic: "orders"}, text).Header("dlq_reason")
		if reason == "" || len(reason) > 1000 || !utf8.ValidString(reason) || strings.ContainsAny(reason, "\n\t\x00\u202e") ||
			strings.TrimSpace(reason) != reason {
			t.Errorf("%q makes %q", text, reason)
		}
	}
}

func TestOriginal(t *testing.T) {
	m := kafka.Message{Topic: "orders", Partition: 3, Offset: 7, Key: []byte("key"), Value: []byte("{"),
		Headers: []kafka.Header{{Key: "ce_id", Value: []byte("1")}, {Key: "empty"}, {Key: "ce_id", Value: []byte("2")}},
		Time:    time.Now()}
	want := m
	want.Partition, want.Offset, want.Time = 0, 0, time.Time{}
	dead := kafka.DeadLetter(m, "not JSON")
	if got, ok := kafka.Original(dead); !ok || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %t; want %+v", got, ok, want)
	}
	m.Value = make([]byte, kafka.MaxMessageBytes)
	for name, dead := range map[string]kafka.Message{"a cut one": kafka.DeadLetter(m, "too large"),
		"no dead letter": want} {
		if got, ok := kafka.Original(dead); ok {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
