package main

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	paymentsv1 "github.com/altyn-pay/altyn/payments/api/altyn/payments/v1"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/outbox"
	"github.com/altyn-pay/altyn/testkit/wait"
)

// Where the outbox has no room for an account's lane, the steps of its payments are refused: they would add events to it. What was
// done before is answered again, and what adds none goes on.
func TestWithoutRoomStepsOfPaymentsAreRefused(t *testing.T) {
	b := setup(t)
	b.limits = outbox.Limits{Messages: contract.Lanes, Age: time.Hour}
	b.url, _ = b.start("all")
	conn := b.stock()
	account := b.account("100.00")
	first, second := b.held(account, "10.00"), b.held(account, "20.00")
	b.expect(b.step(first, "confirm", "", "Idempotency-Key", "before"), 200)
	// A part of a topic that takes nothing has a limit's worth of the lane, and of another one.
	for lane := range 2 {
		if _, err := b.Service.Exec(`
			INSERT INTO outbox_waiting (topic, partitions, partition, seq, lane, count, messages, created_at)
			SELECT 'nowhere', 1, 0, -$1::bigint - 1, (l + $1) % 64, 64, '', now() FROM (SELECT $2::smallint AS l) l`, lane, contract.Lane(account)); err != nil {
			t.Fatal(err)
		}
	}
	wait.Until(t, "a refund is refused", func() bool { // it is looked at each second; a refund of nothing changes nothing
		got := b.step(second, "refund", "")
		if got.status == 503 {
			b.expect(got, 503, "code", "overloaded")
		}
		return got.status == 503
	})
	for _, step := range []string{"confirm", "reject", "refund"} {
		got := b.step(second, step, "", "Idempotency-Key", "new "+step)
		b.expect(got, 503, "code", "overloaded")
		if got.header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", step)
		}
	}
	if got := b.step(first, "confirm", "", "Idempotency-Key", "before"); got.status != 200 || got.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("repeated: %v", got)
	}
	b.expect(b.post("/api/v1/accounts/"+account.String()+"/deposits", map[string]string{"amount": "1.00", "currency": "RUB"}), 201)
	if got := b.call("GET", "/readyz", nil); got.status != 200 {
		t.Errorf("/readyz: %v", got)
	}
	_, err := invoke[paymentsv1.ConfirmPaymentResponse](b, conn, "ConfirmPayment", &paymentsv1.ConfirmPaymentRequest{OrderId: second.OrderID.String()})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("gRPC: %v", err)
	}
	b.until(1, `SELECT count(*) FROM payments WHERE order_id = $1 AND status = 'authorized'`, second.OrderID)
}
