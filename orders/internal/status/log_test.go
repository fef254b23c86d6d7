package status_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/status"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/telemetry"
)

// The log names each order that has changed, or whose event was parked, also of many in one batch.
func TestTheLogNamesEachOrder(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var out bytes.Buffer
	log := telemetry.NewLogger(&out, telemetry.Config{LogLevel: slog.LevelInfo}, "orders")
	worker := status.New(b.store, currencies(), b.producer, func(order.Order) {}, log, prometheus.NewRegistry())
	orders := b.place(t, 300)
	messages := make([]kafka.Message, len(orders))
	for i, o := range orders {
		messages[i] = event(t, o, contract.PaymentFailed, 1, nil)
	}
	messages[0] = event(t, orders[0], contract.PaymentSucceeded, 1, nil)
	messages[0].Headers = append(messages[0].Headers, kafka.Header{Key: "traceparent",
		Value: []byte("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")})
	// of another order, it seems
	messages[1] = event(t, orders[1], contract.PaymentFailed, 1, func(p *contract.Payment) { p.Amount = "0.01" })
	if err := worker.Handle(t.Context(), messages); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	if n := strings.Count(text, "\n"); n > 20 {
		t.Errorf("%d lines: %s", n, text)
	}
	paid := `"msg":"order paid","service":"orders","order_id":"` + orders[0].ID.String() + `","account_id":"` +
		orders[0].AccountID.String() + `","tenant":"default","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736"}`
	if !strings.Contains(text, paid) {
		t.Errorf("the log lacks %s:\n%s", paid, text)
	}
	for _, o := range orders {
		if !strings.Contains(text, o.ID.String()) {
			t.Errorf("order %s is not in the log", o.ID)
		}
	}
}
