package main

import (
	"encoding/json"
	"testing"

	"github.com/altyn-pay/altyn/payments/internal/paymentstest"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
)

// An order of a kind that only a newer version knows waits in its account's queue, and what follows there waits behind
// it, while others go on. Once a version runs that knows it, which a changed record stands for here, all of it takes
// effect in its order.
func TestAnEventOfANewerVersionWaitsForIt(t *testing.T) {
	b := setup(t, "all")
	account, other := b.Account("10.00"), b.Account("10.00")
	order := paymentstest.Order(account, "10.00")
	order.Capture = "instalments"
	placed := paymentstest.Placed(order)
	strange := placed // of a type that is not known, delivered twice
	strange.Headers = append([]kafka.Header(nil), placed.Headers...)
	for i, h := range strange.Headers {
		if h.Key == "ce_type" {
			strange.Headers[i].Value = []byte("order.split")
		}
	}
	late := paymentstest.Order(account, "1.00")
	b.Produce(placed, strange, paymentstest.Placed(late))
	b.Until(1, `SELECT count(*) FROM inbox_stops WHERE account_id = $1 AND retry_at = 'infinity'`, account)
	b.Until(3, `SELECT count(*) FROM inbox WHERE account_id = $1`, account)
	b.Place(paymentstest.Order(other, "10.00"), contract.PaymentSucceeded)
	if items := b.Call("GET", "/admin/parked", nil).Body["items"].([]any); len(items) > 0 {
		t.Errorf("parked are %v", items)
	}

	var rows []struct{ ID, Payload string }
	if err := b.Owner.Select(&rows, `SELECT id, payload FROM inbox WHERE kind = 'kept'`); err != nil || len(rows) != 2 {
		t.Fatalf("kept are %+v, %v", rows, err)
	}
	for _, row := range rows {
		var record map[string]any
		if err := json.Unmarshal([]byte(row.Payload), &record); err != nil {
			t.Fatal(err)
		}
		known := order
		known.Capture = contract.CaptureAutomatic
		record["value"], record["headers"] = paymentstest.Placed(known).Value, placed.Headers
		payload, err := json.Marshal(record)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Owner.Exec(`UPDATE inbox SET payload = $1 WHERE id = $2`, string(payload), row.ID); err != nil {
			t.Fatal(err)
		}
	}
	b.Until(0, `SELECT (SELECT count(*) FROM inbox) + (SELECT count(*) FROM inbox_stops)`)
	b.Until(1, `SELECT count(*) FROM payments WHERE order_id = $1 AND status = 'succeeded'`, order.OrderID)
	b.Until(1, `SELECT count(*) FROM payments WHERE order_id = $1 AND status = 'failed'`, late.OrderID)
}
