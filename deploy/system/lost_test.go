package system

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/altyn-pay/altyn/deploy/audit"
	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/testkit/kfaketest"
	"github.com/altyn-pay/altyn/testkit/localkafka"
)

// The broker loses what it has acknowledged, under load: first all records of both topics, again and again, then one
// topic and the other as a whole. Every order comes to its end all the same, and is charged once.
func TestWhatTheBrokerLosesIsToldAgain(t *testing.T) {
	onEachBroker(t, func(t *testing.T, kind localkafka.Kind) {
		services := stack.Instances(2, 2, 0)
		for i := range services {
			services[i].Env = append(slices.Clone(services[i].Env), "ORDERS_HEAL_AFTER=1s", "PAYMENTS_HEAL_AFTER=1s")
		}
		b := setup(t, kind, services)
		cfg, err := b.KafkaConfig()
		if err != nil {
			t.Fatal(err)
		}
		const clients = 20
		accounts := b.accounts(clients, "100000.00")
		var placed atomic.Int64
		losses, over := context.WithCancel(t.Context())
		defer over()
		var group errgroup.Group
		for worker := range 8 {
			group.Go(func() error {
				for i := worker; losses.Err() == nil; i += 8 {
					if err := b.story(i, accounts[i%clients]); err != nil {
						return fmt.Errorf("order %d: %w", i, err)
					}
					placed.Add(1)
				}
				return nil
			})
		}
		var lost int64
		for range 10 {
			b.progress(&placed, 30)
			for _, topic := range []string{contract.TopicOrders, contract.TopicPayments} {
				lost += kfaketest.DeleteRecords(t, cfg, topic)
			}
		}
		for _, topic := range []string{contract.TopicOrders, contract.TopicPayments} {
			b.progress(&placed, 30)
			kfaketest.DeleteTopic(t, cfg, topic)
		}
		b.progress(&placed, 100)
		over()
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		report, err := b.books(audit.EventsLost)
		if err != nil {
			t.Fatalf("the books are wrong: %v", err)
		}
		if report.Orders != placed.Load() {
			t.Errorf("%d orders are stored, %d were accepted", report.Orders, placed.Load())
		}
		for _, status := range []string{"pending", "cancelling"} {
			if n := report.OrdersByStatus[status]; n > 0 {
				t.Errorf("%d orders are %s", n, status)
			}
		}
		var asked int64
		if err := b.orders.Get(&asked, `SELECT count(*) FROM unsettled WHERE asked > 0`); err != nil {
			t.Fatal(err)
		}
		t.Logf("%d orders, %v; at least %d records were lost, %d orders are being asked about", report.Orders,
			report.OrdersByStatus, lost, asked)
	})
}

// story is what happens to an order from its client's side: it is placed, and perhaps cancelled, or
// refunded where it is paid soon.
func (b *bundle) story(i int, account uuid.UUID) error {
	order := load.NewOrder{AccountID: account, Amount: "1.00", Currency: "RUB"}
	if i%4 == 1 {
		order.Capture = contract.CaptureManual
	}
	placed, err := b.client.Place(b.Context(), uuid.NewString(), order)
	if err != nil {
		return err
	}
	if i%4 == 3 {
		path := "/api/v1/orders/" + placed.ID.String() + "?wait=1s"
		if err := b.client.Call("GET", path, "", nil, &placed); err != nil || placed.Status != "paid" {
			return err
		}
		_, err := b.client.Refund(b.Context(), uuid.NewString(), placed.ID, "0.40")
		return err
	}
	if i%4 == 1 || i%4 == 2 {
		_, err = b.client.Cancel(b.Context(), uuid.NewString(), placed.ID, "changed my mind")
	}
	return err
}
