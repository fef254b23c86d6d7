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

// The log names each order that has failed, or whose event was parked, also of many in one batch; one that is paid is
// in no line.
func TestTheLogNamesWhatDidNotSucceed(t *testing.T) {
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
	// of another order, it seems
	messages[1] = event(t, orders[1], contract.PaymentFailed, 1, func(p *contract.Payment) { p.Amount = "0.01" })
	if err := worker.Handle(t.Context(), messages); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	if n := strings.Count(text, "\n"); n > 20 || strings.Contains(text, orders[0].ID.String()) {
		t.Errorf("%d lines, or one of an order that is paid: %s", n, text)
	}
	for _, o := range orders[1:] {
		if !strings.Contains(text, o.ID.String()) {
			t.Errorf("order %s is not in the log", o.ID)
		}
	}
}
