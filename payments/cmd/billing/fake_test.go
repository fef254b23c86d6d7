package main

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/money"
	"github.com/altyn-pay/altyn/testkit/contracttest"
	"github.com/altyn-pay/altyn/testkit/kafkatest"
)

// core stands in for the billing core: it answers commands over a broker, with the money rules in their simplest
// form. Its faults are those that the client must notice.
type core struct {
	*testing.T
	currencies *money.Currencies
	producer   *kafka.Producer

	balances map[uuid.UUID]map[string]*balance
	holds    map[uuid.UUID]held
	spoil    func(n int, c contract.Command,
		r *contract.Reply) (copies []uuid.UUID) // of the nth command; the ce_ids of its replies
	n int
}

type balance struct{ actual, frozen int64 }

type held struct {
	account uuid.UUID
	amount  int64
}

// start runs a core until the test ends. spoil may be nil.
func start(t *testing.T, spoil func(n int, c contract.Command, r *contract.Reply) []uuid.UUID) kafka.Config {
	t.Helper()
	cfg := kafkatest.Broker(t)
	if err := kafka.EnsureTopics(t.Context(), cfg, contract.TopicCommands, contract.TopicReplies,
		contract.ReplyToPrefix+"shop"); err != nil {
		t.Fatal(err)
	}
	log, metrics := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	currencies, err := money.LoadCurrencies("")
	if err != nil {
		t.Fatal(err)
	}
	producer, err := kafka.NewProducer(cfg, log, metrics)
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := kafka.NewConsumer(cfg, "payments", []string{contract.TopicCommands}, log, metrics)
	if err != nil {
		t.Fatal(err)
	}
	c := &core{T: t, currencies: currencies, producer: producer, spoil: spoil,
		balances: make(map[uuid.UUID]map[string]*balance), holds: make(map[uuid.UUID]held)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- consumer.Run(ctx, c.handle) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		producer.Close()
	})
	return cfg
}

func (c *core) handle(ctx context.Context, messages []kafka.Message) error {
	var replies []kafka.Message
	for _, m := range messages {
		contracttest.ValidateMessage(c, m)
		var command contract.Command
		if err := json.Unmarshal(m.Value, &command); err != nil {
			c.Error(err)
			continue
		}
		reply := c.do(command)
		ids := []uuid.UUID{uuid.New()}
		if c.n++; c.spoil != nil {
			ids = c.spoil(c.n, command, &reply)
		}
		payload, err := json.Marshal(reply)
		if err != nil {
			c.Error(err)
		}
		contracttest.Validate(c, contract.TopicReplies, payload)
		for _, id := range ids {
			event := kafka.Event{ID: id.String(), Type: contract.ReplyType, Source: "/payments"}
			topic := cmp.Or(m.Header(contract.ReplyToHeader), contract.TopicReplies)
			replies = append(replies, kafka.Message{Topic: topic, Key: m.Key, Value: payload,
				Headers: event.Headers()})
		}
	}
	for _, err := range c.producer.Produce(ctx, replies) {
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *core) do(command contract.Command) contract.Reply {
	id := contract.DerivedID(contract.TopicCommands, uuid.Nil, command.CommandID.String())
	reply := contract.Reply{CommandID: command.CommandID, Operation: command.Operation, OperationID: &id,
		Code: 201, Status: "success"}
	operation := contract.Operation{ID: id, Operation: command.Operation, CommandID: *command.CommandID,
		Amount:   string(command.Amount),
		Currency: command.Currency, Reference: command.Reference, Status: "success", CreatedAt: contract.Time(time.Now())}
	refuse := func(code int, reason string) contract.Reply {
		reply.Code, reply.Status, reply.Reason = code, "error", reason
		return reply
	}
	switch command.Operation {
	case "create_account":
		account := contract.Account{ID: id, Owner: command.Owner, Reference: command.Reference,
			CreatedAt: operation.CreatedAt, Balances: []contract.Balance{}}
		if command.ID != nil {
			account.ID = *command.ID
		}
		c.balances[account.ID] = make(map[string]*balance)
		reply.Body = account
		return reply
	case "balance":
		said := contract.Balances{Actual: map[string]string{}, Frozen: map[string]string{}}
		for code, b := range c.balances[*command.AccountID] {
			currency, _ := c.currencies.Lookup(code)
			said.Actual[code], said.Frozen[code] = currency.Format(b.actual), currency.Format(b.frozen)
		}
		reply.Code, reply.OperationID, reply.Body = 200, nil, said
		return reply
	}
	payer, ended := command.AccountID, held{}
	switch {
	case command.FromAccountID != nil:
		payer = command.FromAccountID
	case command.HoldID != nil:
		ended = c.holds[*command.HoldID]
		payer, operation.HoldID, operation.Currency = &ended.account, *command.HoldID, "RUB"
		if command.Amount == "" {
			operation.Amount = money.Format(ended.amount, 2)
		}
	}
	operation.AccountID = *payer
	accounts, ok := c.balances[*payer]
	if !ok {
		return refuse(404, "account_not_found")
	}
	if command.Operation == contract.Invoice {
		operation.Operation = "deposit"
	}
	currency, ok := c.currencies.Lookup(operation.Currency)
	amount, err := currency.Parse(operation.Amount)
	if !ok || err != nil {
		reply.OperationID, reply.Detail = nil, "amount or currency"
		return refuse(400, "validation_failed")
	}
	at := c.at(accounts, currency.Code)
	switch operation.Operation {
	case "deposit":
		at.actual += amount
	case "withdraw", "transfer", "hold":
		if at.actual < amount {
			return refuse(422, "insufficient_funds")
		}
		at.actual -= amount
		switch operation.Operation {
		case "transfer":
			operation.ToAccountID = *command.ToAccountID
			c.at(c.balances[*command.ToAccountID], currency.Code).actual += amount
		case "hold":
			at.frozen += amount
			c.holds[id] = held{*payer, amount}
		}
	case "capture":
		at.frozen -= ended.amount
		at.actual += ended.amount - amount
	case "release":
		at.frozen -= ended.amount
		at.actual += ended.amount
	}
	reply.Body = operation
	return reply
}

func (c *core) at(balances map[string]*balance, currency string) *balance {
	if balances[currency] == nil {
		balances[currency] = new(balance)
	}
	return balances[currency]
}
