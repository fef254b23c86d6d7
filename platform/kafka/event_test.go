package kafka_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/testkit/kfaketest"
)

func TestHeader(t *testing.T) {
	m := kafka.Message{Headers: []kafka.Header{{Key: "a", Value: []byte("1")}, {Key: "b"}, {Key: "a", Value: []byte("2")}}}
	for name, want := range map[string]string{"a": "2", "b": "", "c": ""} {
		if got := m.Header(name); got != want {
			t.Errorf("header %s is %q, not %q", name, got, want)
		}
	}
}

func TestEventHeaders(t *testing.T) {
	event := kafka.Event{ID: "1", Type: "order.placed", Source: "orders",
		Time: time.Date(2026, 7, 1, 14, 0, 0, 5999, time.FixedZone("", 7200))}
	got := map[string]string{}
	for _, h := range event.Headers() {
		got[h.Key] = string(h.Value)
	}
	want := map[string]string{
		"ce_specversion": "1.0", "ce_id": "1", "ce_type": "order.placed", "ce_source": "orders",
		"ce_time": "2026-07-01T12:00:00.000005Z", "content-type": "application/json",
	}
	if len(got) != len(want) {
		t.Errorf("headers %v", got)
	}
	for name, value := range want {
		if got[name] != value {
			t.Errorf("header %s is %q, not %q", name, got[name], value)
		}
	}

	for name, value := range map[string]string{"ce_time": "yesterday", "traceparent": "00-\xff\x00"} {
		if event := kafka.EventOf(kafka.Message{Headers: []kafka.Header{{Key: name,
			Value: []byte(value)}}}); event != (kafka.Event{}) {
			t.Errorf("a malformed %s makes %+v", name, event)
		}
	}
}

func TestDeadLetter(t *testing.T) {
	m := kafka.Message{
		Topic: "orders", Partition: 3, Offset: 17, Key: []byte("key"), Value: []byte("value"), Time: time.Now(),
		Headers: []kafka.Header{{Key: "ce_id", Value: []byte("1")}},
	}
	dead := kafka.DeadLetter(m, "not JSON")
	if dead.Topic != "orders.dlq" || string(dead.Key) != "key" || string(dead.Value) != "value" || !dead.Time.IsZero() {
		t.Errorf("dead letter %+v", dead)
	}
	for name, want := range map[string]string{
		"ce_id": "1", "dlq_reason": "not JSON", "dlq_topic": "orders", "dlq_partition": "3", "dlq_offset": "17",
		"dlq_truncated": "",
	} {
		if got := dead.Header(name); got != want {
			t.Errorf("header %s is %q, not %q", name, got, want)
		}
	}
	if len(m.Headers) != 1 {
		t.Error("the message itself was changed")
	}
}

// A dead letter is never refused for its size, whatever others have put into the topic.
func TestDeadLetterFits(t *testing.T) {
	cfg := kfaketest.Broker(t)
	kfaketest.Ensure(t, cfg, "orders.dlq")
	producer := kfaketest.Producer(t, cfg)
	large := bytes.Repeat([]byte("x"), 2*kafka.MaxMessageBytes)
	for name, m := range map[string]kafka.Message{
		"just too large with its headers": {Value: large[:kafka.MaxMessageBytes-200]},
		"a large value": {Key: []byte("key"), Value: large,
			Headers: []kafka.Header{{Key: "a", Value: []byte("b")}}},
		"large headers":    {Key: []byte("key"), Value: []byte("value"), Headers: []kafka.Header{{Key: "a", Value: large}}},
		"a large key":      {Key: large, Value: []byte("value")},
		"large everything": {Key: large, Value: large, Headers: []kafka.Header{{Key: "a", Value: large}}},
	} {
		t.Run(name, func(t *testing.T) {
			m.Topic = "orders"
			dead := kafka.DeadLetter(m, strings.Repeat("reason ", 1000))
			if dead.Header("dlq_truncated") == "" || dead.Header("dlq_topic") != "orders" {
				t.Errorf("headers of %d, value of %d bytes", len(dead.Headers), len(dead.Value))
			}
			if len(m.Value) > 0 && len(dead.Value) == 0 {
				t.Error("nothing of the value is left")
			}
			kfaketest.Produce(t, producer, dead)
		})
	}
}
