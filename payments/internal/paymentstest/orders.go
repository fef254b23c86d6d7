package paymentstest

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
)

// Order is a new order in roubles.
func Order(account uuid.UUID, amount string) contract.Order {
	return contract.Order{OrderID: uuid.Must(uuid.NewV7()), AccountID: account, Amount: amount, Currency: "RUB",
		Capture: contract.CaptureAutomatic, CreatedAt: contract.Time(time.Now())}
}

// Placed is the event of a new order.
func Placed(o contract.Order) kafka.Message { return event(o, contract.OrderPlacedType, o) }

// Cancelled is the event of an order's cancellation.
func Cancelled(o contract.Order, reason string) kafka.Message {
	now := contract.Time(time.Now())
	return event(o, contract.OrderCancelledType, contract.Cancellation{Order: o, Reason: reason, CancelledAt: now})
}

func event(o contract.Order, kind string, body any) kafka.Message {
	payload, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	e := kafka.Event{ID: uuid.NewString(), Type: kind, Source: "/orders", Subject: o.OrderID.String()}
	return message(contract.TopicOrders, o.AccountID, payload, e.Headers()...)
}

// Command is a command of the broker.
func Command(account uuid.UUID, text string, headers ...kafka.Header) kafka.Message {
	return message(contract.TopicCommands, account, []byte(text), headers...)
}

func message(topic string, account uuid.UUID, value []byte, headers ...kafka.Header) kafka.Message {
	return kafka.Message{Topic: topic, Key: []byte(account.String()), Value: value, Headers: headers}
}

// Place publishes an order, twice, and waits until its payment has the status.
func (b *Bundle) Place(o contract.Order, status string) {
	b.Helper()
	b.Produce(Placed(o), Placed(o))
	b.Until(1, `SELECT count(*) FROM payments WHERE order_id = $1 AND status = $2`, o.OrderID, status)
}

// Held places an order whose money is held.
func (b *Bundle) Held(account uuid.UUID, amount string) contract.Order {
	b.Helper()
	o := Order(account, amount)
	o.Capture = contract.CaptureManual
	b.Place(o, contract.PaymentAuthorized)
	return o
}

// Step asks for a step of an order's payment.
func (b *Bundle) Step(o contract.Order, step, body string, headers ...string) Answer {
	b.Helper()
	return b.Call("POST", fmt.Sprintf("/api/v1/payments/%s/%s", o.OrderID, step), body, headers...)
}

// Events are the events of an order's payment, n of them or more.
func (b *Bundle) Events(o contract.Order, n int) (events []kafka.Message) {
	b.Helper()
	b.Consume(contract.TopicPayments, func(messages []kafka.Message) bool {
		events = nil
		for _, m := range messages {
			if m.Header("ce_subject") == o.OrderID.String() {
				events = append(events, m)
			}
		}
		return len(events) >= n
	})
	return events
}

// Story is what the events tell of an order's payment.
func (b *Bundle) Story(o contract.Order, steps int) (story []string) {
	b.Helper()
	for _, m := range b.Events(o, steps) {
		var p contract.Payment
		if err := json.Unmarshal(m.Value, &p); err != nil {
			b.Fatal(err)
		}
		if got := m.Header("ce_id"); got != contract.EventID(m.Header("ce_type"), p.OrderID, p.Version).String() {
			b.Errorf("event %s of version %d has the ID %s", m.Header("ce_type"), p.Version, got)
		}
		step := strings.TrimPrefix(m.Header("ce_type"), "payment.")
		story = append(story, fmt.Sprintf("%d %s %s %s-%s", p.Version, step, p.Reason, p.CapturedAmount, p.RefundedAmount))
	}
	return story
}
