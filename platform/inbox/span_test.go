package inbox

import (
	"errors"
	"log/slog"
	"testing"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	v1 "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/telemetry"
	"github.com/altyn-pay/altyn/testkit/otlptest"
)

// Each attempt to give a message its effect is a span in the message's trace, however long the message was parked
// between them, and also where it takes effect at once.
func TestWhatIsParkedGoesOnInItsTrace(t *testing.T) {
	const trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	collector := otlptest.New(t)
	tracer, err := telemetry.NewTracer(telemetry.Traces{Endpoint: collector.URL, Sampler: "parentbased_always_off",
		Queue: 100}, "payments", slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	b := setup(t)
	w, end := b.runTraced(tracer)
	message := func(flag string) Stored {
		account := uuid.New()
		return Stored{ID: uuid.New(), Lane: contract.Lane(account), AccountID: account, Kind: "test", Body: "1",
			Traceparent: "00-" + trace + "-" + parent + "-" + flag}
	}
	bad, direct, other := message("01"), message("01"), message("00")
	b.poison.Store(bad.ID, errors.New("cannot"))
	b.insert([]Stored{bad})
	w.Wake()
	b.parked(bad)
	b.poison.Delete(bad.ID)
	if _, err := b.operators().Redrive(t.Context(), bad.ID, unrecorded); err != nil {
		t.Fatal(err)
	}
	b.until(1, `SELECT count(*) FROM effects WHERE id = $1`, bad.ID)
	if _, err := NewIntake(b.inbox(), w).Accept(t.Context(), direct, other); err != nil {
		t.Fatal(err)
	}
	b.until(3, `SELECT count(*) FROM effects WHERE id = $1 OR id = $2 OR id = $3`, bad.ID, direct.ID, other.ID)
	end()
	tracer.Close()

	ends := map[string][]bool{} // of a message's spans: whether each failed
	links, own := 0, 0
	for _, s := range collector.Spans() {
		if s.Name == "settle batch" {
			links, own = links+len(s.Links), own+1
			if s.Trace() == trace {
				t.Errorf("the batch's span is in a message's trace: %v", s)
			}
			continue
		}
		if s.Name != "settle test" || s.Trace() != trace || s.Parent() != parent {
			t.Errorf("span %v", s)
		}
		id := s.Attribute("altyn.message_id")
		ends[id] = append(ends[id], s.Status.GetCode() == v1.Status_STATUS_CODE_ERROR)
	}
	attempts := ends[bad.ID.String()]
	if n := len(attempts); n < quick.Attempts+1 || attempts[n-1] || !attempts[0] || !attempts[n-2] {
		t.Errorf("attempts of what was parked: %v", attempts)
	}
	if len(ends[direct.ID.String()]) != 1 || ends[direct.ID.String()][0] || len(ends) != 2 ||
		links != len(attempts)+1 || own != links {
		t.Errorf("%v, %d batches with %d links", ends, own, links)
	}
}
