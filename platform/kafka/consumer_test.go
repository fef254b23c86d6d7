package kafka_test

import (
	"testing"

	"github.com/altyn-pay/altyn/platform/kafkatest"
)

func TestConsumeWhatWasProduced(t *testing.T) {
	cfg := kafkatest.Broker(t)
	ensure(t, cfg, topic)
	r := read(t, cfg, "payments", []string{topic}, nil)
	produce(t, newProducer(t, cfg), messages(topic, 0, 2500, 7)...)
	got := r.await(t, count(2500))
	if len(got) != 2500 {
		t.Fatal(len(got))
	}
}
