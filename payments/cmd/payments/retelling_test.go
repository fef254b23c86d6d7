package main

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/altyn-pay/altyn/payments/internal/paymentstest"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
)

// An order that is paid does not ask whether money was returned since. So it is told again, a few times with growing
// pauses, by the same event; then it is forgotten.
func TestRefundsAreToldOfAgain(t *testing.T) {
	b := setupProgram(t, program(Config{HealAfter: time.Second}), "all")
	account := b.Account("100.00")
	o := paymentstest.Order(account, "60.00")
	b.Produce(paymentstest.Placed(o))
	b.Until(1, `SELECT count(*) FROM payments WHERE status = 'succeeded'`)
	for _, amount := range []string{`{"amount": "10.00"}`, `{"amount": "20.00"}`} {
		b.Expect(b.Step(o, "refund", amount), 200, "status", "refunded")
	}

	refunds := func(messages []kafka.Message) (last []kafka.Event) {
		for _, m := range messages {
			var p contract.Payment
			if err := json.Unmarshal(m.Value, &p); err != nil {
				t.Fatal(err)
			}
			if p.RefundedAmount == "30.00" && p.Version == 3 {
				last = append(last, kafka.EventOf(m))
			}
		}
		return last
	}
	for told := 1; told <= 4; told++ {
		events := refunds(b.Consume(contract.TopicPayments,
			func(messages []kafka.Message) bool { return len(refunds(messages)) > told }))
		for _, e := range events {
			if e.ID != events[0].ID {
				t.Errorf("the event was published under the IDs %s and %s", events[0].ID, e.ID)
			}
		}
		if told == 4 {
			break
		}
		// Each pause is eight times the one before. It has passed.
		b.Until(told, `SELECT told FROM retellings`)
		var pause float64
		if err := b.Owner.Get(&pause,
			`SELECT extract(epoch FROM due_at + interval '1 second' - clock_timestamp()) FROM retellings`); err != nil {
			t.Fatal(err)
		}
		if want := math.Pow(8, float64(told)); pause > want || pause < want-5 {
			t.Errorf("the refund is told of again after %.1f s, not after %g s", pause, want)
		}
		if _, err := b.Owner.Exec(`UPDATE retellings SET due_at = due_at - interval '512 seconds'`); err != nil {
			t.Fatal(err)
		}
	}
	b.Until(0, `SELECT count(*) FROM retellings`)
	if got := b.Balance(account); got != "70.00" {
		t.Errorf("the account has %s", got)
	}
}
