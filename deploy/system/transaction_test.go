package system

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
)

// transactor writes to topics in Kafka's transactions, as a client of another make does.
type transactor struct {
	mu     sync.Mutex // one transaction at a time
	client *kgo.Client
}

func (b *bundle) newTransactor() *transactor {
	b.Helper()
	cfg, err := b.KafkaConfig()
	if err != nil {
		b.Fatal(err)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...), kgo.TransactionalID("transactor-"+uuid.NewString()),
		kgo.RequiredAcks(kgo.AllISRAcks()))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(client.Close)
	return &transactor{client: client}
}

// produce writes records in one transaction and commits it, or gives it up.
func (x *transactor) produce(ctx context.Context, end kgo.TransactionEndTry, records ...*kgo.Record) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.client.BeginTransaction(); err != nil {
		return fmt.Errorf("begin a transaction: %w", err)
	}
	if err := x.client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return fmt.Errorf("produce in a transaction: %w", err)
	}
	if err := x.client.EndTransaction(ctx, end); err != nil {
		return fmt.Errorf("end a transaction: %w", err)
	}
	return nil
}

// kafkaRecord is a message as outside systems write it; eventType may be empty.
func kafkaRecord(topic, key, eventType string, body any, headers ...kafka.Header) *kgo.Record {
	value, err := json.Marshal(body)
	if err != nil {
		panic(err) // a struct of strings
	}
	r := &kgo.Record{Topic: topic, Key: []byte(key), Value: value}
	for _, h := range headers {
		r.Headers = append(r.Headers, kgo.RecordHeader(h))
	}
	if eventType != "" {
		for name, value := range map[string]string{"ce_id": uuid.NewString(), "ce_type": eventType, "ce_source": "/test",
			"ce_specversion": "1.0"} {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: name, Value: []byte(value)})
		}
	}
	return r
}

// givenUp makes records that would do a lot, if their transaction were not given up: money in and out, an order that
// nobody has placed, and word and events about an order that there is.
func givenUp(by *party, account uuid.UUID, order uuid.UUID, minor int64, status string) []*kgo.Record {
	amount := cents(minor)
	key, tenant := account.String(), kafka.Header{Key: "ce_tenant", Value: []byte(by.reach.Tenant)}
	command := func(operation string) *kgo.Record {
		return kafkaRecord(contract.TopicCommands, key, "", map[string]string{
			"command_id": uuid.NewString(), "operation": operation, "account_id": key, "amount": amount,
			"currency": currencies[0],
		}, by.bearer()...)
	}
	placed := contract.Order{OrderID: uuid.New(), AccountID: account, Amount: amount, Currency: currencies[0],
		Capture: contract.CaptureAutomatic}
	records := []*kgo.Record{
		command("deposit"), command("withdraw"),
		kafkaRecord(contract.TopicOrders, key, contract.OrderPlacedType, placed, tenant),
	}
	if order == uuid.Nil {
		return records
	}
	cancelled := placed
	cancelled.OrderID = order
	return append(records,
		kafkaRecord(contract.TopicInventory, key, "", goods(order, status), by.bearer()...),
		kafkaRecord(contract.TopicOrders, key, contract.OrderCancelledType,
			contract.Cancellation{Order: cancelled, Reason: "never"}, tenant),
		kafkaRecord(contract.TopicPayments, key, contract.PaymentSucceededType, contract.Payment{
			OrderID: order, AccountID: account, Amount: amount, Currency: currencies[0], Capture: contract.CaptureAutomatic,
			Status: contract.PaymentSucceeded, CapturedAmount: amount, RefundedAmount: "0.00", Version: 900,
		}, tenant),
	)
}
