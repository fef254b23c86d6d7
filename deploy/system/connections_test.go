package system

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/testkit/localkafka"
)

// Two connections for each process are enough for all of its stages together: one has the relay's lock for ever, and
// what the other one is for never needs a third.
func TestTwoConnectionsAreEnough(t *testing.T) {
	services := stack.Instances(1, 1, 2)
	for i := range services {
		services[i].Env = append(services[i].Env, "POSTGRES_MAX_CONNS=2")
	}
	b := setup(t, localkafka.Embedded, services)
	const clients, each = 32, 160
	var cancelled atomic.Int64
	if err := load.Each(t.Context(), each, clients, func(i int) error {
		// New balances all the time, also of others' accounts, in several currencies.
		payer, payee, currency := uuid.New(), uuid.New(), []string{"RUB", "USD", "BTC"}[i%3]
		for _, account := range []uuid.UUID{payer, payee} {
			if err := b.client.Call("POST", "/api/v1/accounts?wait=20s", uuid.NewString(), map[string]any{"id": account},
				nil); err != nil {
				return fmt.Errorf("open an account: %w", err)
			}
		}
		for _, post := range []struct {
			path string
			body map[string]any
		}{
			{"/api/v1/accounts/" + payer.String() + "/deposits", map[string]any{"amount": "100", "currency": currency}},
			{"/api/v1/transfers", map[string]any{"from_account_id": payer, "to_account_id": payee, "amount": "10",
				"currency": currency}},
		} {
			if err := b.client.Call("POST", post.path+"?wait=20s", uuid.NewString(), post.body, nil); err != nil {
				return fmt.Errorf("%s: %w", post.path, err)
			}
		}
		var order load.Order
		if err := b.client.Call("POST", "/api/v1/orders?wait=20s", "",
			load.NewOrder{AccountID: payer, Amount: "20", Currency: currency}, &order); err != nil {
			return err
		}
		if order.Status != "paid" {
			return fmt.Errorf("an order is %+v", order)
		}
		if i%4 > 0 {
			return nil
		}
		cancelled.Add(1)
		return b.client.Call("POST", "/api/v1/orders/"+order.ID.String()+"/cancel?wait=20s", "", nil, nil)
	}); err != nil {
		t.Fatal(err)
	}
	b.audit(map[string]int64{"paid": each - cancelled.Load(), "cancelled": cancelled.Load()})
}
