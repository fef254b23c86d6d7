package system

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/testkit/kfaketest"
	"github.com/altyn-pay/altyn/testkit/localkafka"
)

// Other systems write in transactions, of which half are aborted, on every topic that Altyn reads, beside its own
// messages and each other's. What was aborted never takes effect: neither commands, nor goods, nor forged events that
// would pay an order, fail it or charge an account. What was committed does, once.
func TestAbortedTransactionsNeverTakeEffect(t *testing.T) {
	onEachBroker(t, func(t *testing.T, kind localkafka.Kind) {
		b := setup(t, kind, stack.Instances(1, 2, 0))
		cfg, err := b.KafkaConfig()
		if err != nil {
			t.Fatal(err)
		}
		const producers, transactions, writers = 3, 40, 4
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		accounts := b.accounts(producers*4, "1000.00")
		expected := map[uuid.UUID]int64{} // roubles
		orders := make([]load.Order, len(accounts))
		for i, account := range accounts {
			expected[account] = 1000
			if orders[i], err = b.client.Place(t.Context(), uuid.NewString(),
				load.NewOrder{AccountID: account, Amount: "10.00", Currency: "RUB", AwaitInventory: true}); err != nil {
				t.Fatal(err)
			}
		}
		b.until(len(orders), `SELECT count(*) FROM payments`)

		var mu sync.Mutex
		deposits, completed := 0, map[uuid.UUID]bool{}
		var group errgroup.Group
		for n := range producers {
			random := rand.New(rand.NewPCG(seed, uint64(n)))
			other := kfaketest.NewTransactional(t, cfg, fmt.Sprintf("other-%d", n))
			mine := n * 4 // the accounts of whose orders it decides all but the last
			group.Go(func() error {
				for range transactions {
					if commit := random.IntN(2) == 0; !commit {
						if err := other.Produce(t.Context(), false, ghosts(random, accounts, orders)...); err != nil {
							return err
						}
						continue
					}
					account, i := accounts[random.IntN(len(accounts))], mine+random.IntN(3)
					if err := other.Produce(t.Context(), true, command(account, "1.00"),
						inventory(orders[i].ID, contract.InventoryCompleted)); err != nil {
						return err
					}
					mu.Lock()
					deposits++
					expected[account]++
					completed[orders[i].ID] = true
					mu.Unlock()
				}
				return nil
			})
		}
		for n := range writers { // what is behind an open transaction waits for it, and is not lost
			group.Go(func() error {
				for range 10 {
					if _, err := b.client.Place(t.Context(), uuid.NewString(),
						load.NewOrder{AccountID: accounts[n], Amount: "1.00", Currency: "RUB"}); err != nil {
						return err
					}
					mu.Lock()
					expected[accounts[n]]--
					mu.Unlock()
				}
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		b.until(len(accounts)+deposits, `SELECT count(*) FROM operations WHERE operation = 'deposit'`)
		b.until(len(completed)+10*writers, `SELECT count(*) FROM payments WHERE status = 'succeeded'`)

		// The rest completes too, behind all that was aborted.
		for i, o := range orders {
			expected[accounts[i]] -= 10
			if completed[o.ID] {
				continue
			}
			var now load.Order
			if b.get("/api/v1/orders/"+o.ID.String(), &now); now.Status != "pending" {
				t.Errorf("order %s, which nobody has decided, is %s", o.ID, now.Status)
			}
			for _, err := range b.newProducer().Produce(t.Context(),
				[]kafka.Message{inventory(o.ID, contract.InventoryCompleted)}) {
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		b.audit(map[string]int64{"paid": int64(len(orders) + 10*writers)})
		b.until(len(accounts)+deposits, `SELECT count(*) FROM operations WHERE operation = 'deposit'`)
		for account, roubles := range expected {
			b.balance(account, fmt.Sprintf("%d.00", roubles), "0.00")
		}
		t.Logf("%d deposits, %d orders completed in transactions", deposits, len(completed))
	})
}

func message(topic string, key uuid.UUID, payload any, event kafka.Event) kafka.Message {
	text, err := json.Marshal(payload)
	if err != nil {
		panic(err)
	}
	m := kafka.Message{Topic: topic, Key: []byte(key.String()), Value: text}
	if event.Type != "" {
		event.ID = uuid.NewString()
		m.Headers = event.Headers()
	}
	return m
}

func command(account uuid.UUID, amount string) kafka.Message {
	return message(contract.TopicCommands, account, map[string]any{
		"command_id": uuid.New(), "operation": "deposit", "account_id": account, "amount": amount, "currency": "RUB",
	}, kafka.Event{})
}

func inventory(order uuid.UUID, status string) kafka.Message {
	return message(contract.TopicInventory, order, goods(order, status), kafka.Event{})
}

// ghosts are messages that must not take effect, of which each would show.
func ghosts(random *rand.Rand, accounts []uuid.UUID, orders []load.Order) (list []kafka.Message) {
	for range 1 + random.IntN(4) {
		i := random.IntN(len(orders))
		order, account, now := orders[i].ID, accounts[i], contract.Time(time.Now())
		switch random.IntN(5) {
		case 0:
			list = append(list, command(account, "500.00"))
		case 1:
			list = append(list, inventory(order, contract.InventoryCompleted))
		case 2:
			list = append(list, inventory(order, contract.InventoryFailed))
		case 3:
			list = append(list, message(contract.TopicOrders, account, contract.Order{
				OrderID: uuid.New(), AccountID: account, Amount: "7.00", Currency: "RUB", Capture: contract.CaptureAutomatic,
				CreatedAt: now,
			}, kafka.Event{Type: contract.OrderPlacedType}))
		default:
			list = append(list, message(contract.TopicPayments, account, contract.Payment{
				OrderID: order, AccountID: account, Amount: "10.00", Currency: "RUB", Capture: contract.CaptureAutomatic,
				Status: contract.PaymentFailed,
				Reason: "insufficient_funds", CapturedAmount: "0.00", RefundedAmount: "0.00", Version: 1000, CreatedAt: now,
				UpdatedAt: now,
			}, kafka.Event{Type: contract.PaymentFailedType}))
		}
	}
	return list
}
