package kafka_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	v1 "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/telemetry"
	"github.com/altyn-pay/altyn/testkit/otlptest"
)

func TestAMessageIsHandledInASpanOfItsTrace(t *testing.T) {
	const trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	const sampled, unsampled = "00-" + trace + "-" + parent + "-01", "00-" + trace + "-" + parent + "-00"
	away := errors.New("the database is away")
	for _, test := range []struct {
		name, topic, traceparent string
		ratio                    float64
		err                      error
		recorded                 bool
		sameTrace                bool
	}{
		{"sampled", contract.TopicOrders, sampled, 0, nil, true, true},
		{"handled in vain", contract.TopicOrders, sampled, 0, away, true, true},
		{"not sampled", contract.TopicOrders, unsampled, 1, nil, false, true},
		{"without a trace", contract.TopicOrders, "", 1, nil, false, false},
		{"a stranger's", contract.TopicCommands, unsampled, 1, nil, true, true},
		{"a stranger's that asks for it", contract.TopicCommands, sampled, 0, nil, false, true},
		{"a stranger's without a trace", contract.TopicCommands, "", 1, nil, true, false},
		{"a stranger's that makes no sense", contract.TopicInventory, "\xff\x00", 1, nil, true, false},
	} {
		collector := otlptest.New(t)
		tracer, err := telemetry.NewTracer(telemetry.Traces{Endpoint: collector.URL, Sampler: "parentbased_traceidratio",
			Ratio: test.ratio, Queue: 10}, "payments", slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		m := kafka.Message{Topic: test.topic, Key: []byte("account"), Headers: []kafka.Header{
			{Key: "traceparent", Value: []byte("an earlier one")}, {Key: "ce_subject", Value: []byte("order")}}}
		if test.traceparent != "" {
			m.Headers = append(m.Headers, kafka.Header{Key: "traceparent", Value: []byte(test.traceparent)})
		} else {
			m.Headers = m.Headers[1:]
		}
		var seen string
		handle := kafka.Traced(tracer, func(_ context.Context, messages []kafka.Message) error {
			seen = kafka.EventOf(messages[0]).Traceparent
			return test.err
		})
		batch := []kafka.Message{m}
		if err := handle(t.Context(), batch); !errors.Is(err, test.err) {
			t.Errorf("%s: %v", test.name, err)
		}
		if came, _ := telemetry.ParseTraceparent(test.traceparent); kafka.EventOf(batch[0]).Traceparent != came {
			t.Errorf("%s: the message was changed for its next attempt", test.name)
		}
		tracer.Close()
		if telemetry.Sampled(seen) != test.recorded || test.sameTrace != (telemetry.TraceID(seen) == trace) {
			t.Errorf("%s: handled with %s", test.name, seen)
		}
		spans := collector.Spans()
		if !test.recorded {
			if len(spans) != 0 {
				t.Errorf("%s: %v", test.name, spans)
			}
			continue
		}
		if len(spans) != 2 {
			t.Fatalf("%s: %v", test.name, spans)
		}
		own, s := spans[0], spans[1]
		if s.Name != "process "+test.topic || s.Kind != v1.Span_SPAN_KIND_CONSUMER || s.ID() != seen[36:52] ||
			s.Attribute("cloudevents.event_subject") != "order" || test.sameTrace && s.Parent() != parent ||
			own.Name != "process batch of "+test.topic || len(own.Links) != 1 ||
			(s.Status.GetCode() == v1.Status_STATUS_CODE_ERROR) != (test.err != nil) {
			t.Errorf("%s: %v, %v", test.name, own, s)
		}
	}
}
