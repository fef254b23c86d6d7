package kafka

import (
	"time"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/telemetry"
)

// Event is the context of a message in the binary mode of CloudEvents 1.0 over Kafka: everything but the payload.
type Event struct {
	ID          string
	Type        string
	Source      string
	Subject     string    // optional
	Time        time.Time // optional
	Traceparent string    // optional; the W3C trace context
	Tenant      string    // optional; whose it is, that of identity.DefaultTenant where it is missing
}

// Headers returns the event as headers of a message whose value is JSON.
func (e Event) Headers() []Header {
	headers := make([]Header, 0, 9)
	add := func(key, value string) {
		if value != "" {
			headers = append(headers, Header{Key: key, Value: []byte(value)})
		}
	}
	add("ce_specversion", "1.0")
	add("ce_id", e.ID)
	add("ce_type", e.Type)
	add("ce_source", e.Source)
	if !e.Time.IsZero() {
		add("ce_time", contract.Time(e.Time).String())
	}
	add("ce_subject", e.Subject)
	add("ce_tenant", e.Tenant)
	add("content-type", "application/json")
	add("traceparent", e.Traceparent)
	return headers
}

// EventOf reads the event from a message's headers. What is missing or malformed stays zero.
func EventOf(m Message) (event Event) {
	for _, h := range m.Headers { // the last one of a name counts, as in Message.Header
		switch h.Key {
		case "ce_id":
			event.ID = string(h.Value)
		case "ce_type":
			event.Type = string(h.Value)
		case "ce_source":
			event.Source = string(h.Value)
		case "ce_subject":
			event.Subject = string(h.Value)
		case "ce_tenant":
			event.Tenant = string(h.Value)
		case "ce_time":
			at, _ := time.Parse(time.RFC3339Nano, string(h.Value))
			event.Time = at.UTC()
		case "traceparent": // checked, because anyone may have written it and it is passed on
			event.Traceparent, _ = telemetry.ParseTraceparent(string(h.Value))
		}
	}
	return event
}
