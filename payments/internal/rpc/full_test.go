package rpc_test

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

// Where the outbox has no room for an account's lane, the steps of its payments are refused: they would add events to
// it. What was done before is answered again, and what adds none goes on.
func TestWithoutRoomStepsOfPaymentsAreRefused(t *testing.T) {
	b := setup(t)
	b.Settings.Outbox = outbox.Limits{Messages: contract.Lanes, Age: time.Hour}
	b.URL, _ = b.Start("all")
	conn := b.stock()
	account := b.Account("100.00")
	first, second := b.Held(account, "10.00"), b.Held(account, "20.00")
	b.Expect(b.Step(first, "confirm", "", "Idempotency-Key", "before"), 200)
	// A part of a topic that takes nothing has a limit's worth of the lane, and of another one.
	for lane := range 2 {
		if _, err := b.Service.Exec(`
			INSERT INTO outbox_waiting (topic, partitions, partition, seq, lane, count, messages, created_at)
			SELECT 'nowhere', 1, 0, -$1::bigint - 1, (l + $1) % 64, 64, '', now() FROM (SELECT $2::smallint AS l) l`,
			lane, contract.Lane(account)); err != nil {
			t.Fatal(err)
		}
	}
	wait.Until(t, "a refund is refused", func() bool { // it is looked at each second; a refund of nothing changes nothing
		got := b.Step(second, "refund", "")
		if got.Status == 503 {
			b.Expect(got, 503, "code", "overloaded")
		}
		return got.Status == 503
	})
	for _, step := range []string{"confirm", "reject", "refund"} {
		got := b.Step(second, step, "", "Idempotency-Key", "new "+step)
		b.Expect(got, 503, "code", "overloaded")
		if got.Header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", step)
		}
	}
	if got := b.Step(first, "confirm", "", "Idempotency-Key", "before"); got.Status != 200 ||
		got.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("repeated: %v", got)
	}
	b.Expect(b.Post("/api/v1/accounts/"+account.String()+"/deposits",
		map[string]string{"amount": "1.00", "currency": "RUB"}), 201)
	if got := b.Call("GET", "/readyz", nil); got.Status != 200 {
		t.Errorf("/readyz: %v", got)
	}
	_, err := invoke[paymentsv1.ConfirmPaymentResponse](b, conn, "ConfirmPayment",
		&paymentsv1.ConfirmPaymentRequest{OrderId: second.OrderID.String()})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("gRPC: %v", err)
	}
	b.Until(1, `SELECT count(*) FROM payments WHERE order_id = $1 AND status = 'authorized'`, second.OrderID)
}
