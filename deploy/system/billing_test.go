package system

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/money"
	"github.com/altyn-pay/altyn/testkit/localkafka"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

// teller sends commands over the broker and hands each reply to those who wait for it.
type teller struct {
	bundle   *bundle
	producer *kafka.Producer

	mu      sync.Mutex
	waiting map[question][]chan contract.Reply
}

// question is a command that is to be answered on a topic.
type question struct {
	topic   string
	command uuid.UUID
}

// newTeller reads the replies on topics, which must exist.
func newTeller(b *bundle, topics ...string) *teller {
	b.Helper()
	cfg, err := b.KafkaConfig()
	if err != nil {
		b.Fatal(err)
	}
	discard, metrics := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	t := &teller{bundle: b, waiting: map[question][]chan contract.Reply{}}
	if t.producer, err = kafka.NewProducer(cfg, discard, metrics); err != nil {
		b.Fatal(err)
	}
	consumer, err := kafka.NewConsumer(cfg, "teller", topics, discard, metrics)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- consumer.Run(ctx, t.receive) }()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
		t.producer.Close()
	})
	return t
}

func (t *teller) receive(_ context.Context, messages []kafka.Message) error {
	for _, m := range messages {
		var reply contract.Reply
		if err := json.Unmarshal(m.Value, &reply); err != nil || reply.CommandID == nil {
			return fmt.Errorf("reply %s: %w", m.Value, err)
		}
		tenant := cmp.Or(kafka.EventOf(m).Tenant, identity.DefaultTenant)
		if of, ok := strings.CutPrefix(m.Topic, contract.ReplyToPrefix); ok && of != tenant &&
			!strings.HasPrefix(of, tenant+".") {
			t.bundle.Errorf("on %s is a reply to the tenant %s: %s", m.Topic, tenant, m.Value)
		}
		t.mu.Lock()
		q := question{m.Topic, *reply.CommandID}
		waiting := t.waiting[q]
		delete(t.waiting, q)
		t.mu.Unlock()
		for _, w := range waiting {
			w <- reply
		}
	}
	return nil
}

func record(account uuid.UUID, c contract.Command) (kafka.Message, error) {
	text, err := json.Marshal(c)
	return kafka.Message{Topic: contract.TopicCommands, Key: []byte(account.String()), Value: text}, err
}

// ask sends a command, so many times, and waits for its first reply.
func (t *teller) ask(ctx context.Context, account uuid.UUID, c contract.Command, times int) (contract.Reply, error) {
	m, err := record(account, c)
	if err != nil {
		return contract.Reply{}, err
	}
	return t.send(ctx, question{contract.TopicReplies, *c.CommandID}, slices.Repeat([]kafka.Message{m}, times)...)
}

// send sends messages and waits for the first reply to their command.
func (t *teller) send(ctx context.Context, q question, messages ...kafka.Message) (contract.Reply, error) {
	waiting := make(chan contract.Reply, 1)
	t.mu.Lock()
	t.waiting[q] = append(t.waiting[q], waiting)
	t.mu.Unlock()
	if err := errors.Join(t.producer.Produce(ctx, messages)...); err != nil {
		return contract.Reply{}, err
	}
	select {
	case reply := <-waiting:
		return reply, nil
	case <-ctx.Done():
		return contract.Reply{}, fmt.Errorf("no reply to %s", messages[0].Value)
	}
}

// model is what a group of accounts should have: the rules of the ledger in their simplest form.
type model struct {
	actual, frozen map[uuid.UUID]int64
	holds          map[uuid.UUID]*modelHold
	holdIDs        []uuid.UUID
}

type modelHold struct {
	account uuid.UUID
	amount  int64
	open    bool
}

func cents(minor int64) string { return fmt.Sprintf("%d.%02d", minor/100, minor%100) }

// step draws an operation, and returns it as a command, whose queue it is in, the expected reason ("" for success), and
// what it does to the model when it has succeeded.
func (m *model) step(random *rand.Rand, accounts []uuid.UUID) (c contract.Command, queue uuid.UUID, reason string,
	apply func(operation uuid.UUID)) {
	account, amount := accounts[random.IntN(len(accounts))], 1+random.Int64N(300)
	c = contract.Command{AccountID: &account, Currency: "RUB"}
	enough := func() {
		if m.actual[account] < amount {
			reason = "insufficient_funds"
		}
	}
	queue = account
	switch kind := random.IntN(10); {
	case kind < 3:
		c.Operation = "deposit"
		apply = func(uuid.UUID) { m.actual[account] += amount }
	case kind < 5:
		c.Operation = "withdraw"
		enough()
		apply = func(uuid.UUID) { m.actual[account] -= amount }
	case kind < 7:
		payee := accounts[random.IntN(len(accounts))]
		c.Operation, c.AccountID, c.FromAccountID, c.ToAccountID = "transfer", nil, &account, &payee
		if enough(); payee == account {
			reason = "same_account"
		}
		apply = func(uuid.UUID) { m.actual[account] -= amount; m.actual[payee] += amount }
	case kind < 8 || len(m.holdIDs) == 0:
		c.Operation = "hold"
		enough()
		apply = func(id uuid.UUID) {
			m.actual[account] -= amount
			m.frozen[account] += amount
			m.holds[id] = &modelHold{account, amount, true}
			m.holdIDs = append(m.holdIDs, id)
		}
	default:
		id := m.holdIDs[random.IntN(len(m.holdIDs))]
		hold := m.holds[id]
		c = contract.Command{Operation: "release", HoldID: &id}
		queue = hold.account
		back := hold.amount
		if kind == 9 {
			c.Operation = "capture"
			if back = 0; amount < hold.amount {
				c.Amount, back = "partial", hold.amount-amount
			}
		}
		if !hold.open {
			reason = "hold_not_open"
		}
		apply = func(uuid.UUID) {
			hold.open = false
			m.frozen[hold.account] -= hold.amount
			m.actual[hold.account] += back
		}
		if c.Amount == "" {
			return c, queue, reason, apply
		}
	}
	c.Amount = money.Decimal(cents(amount))
	return c, queue, reason, apply
}

// Random operations, some over HTTP and some over the broker, some sent several times, with four payments instances and
// every message on the topics doubled, end as a simple model says: each operation, each balance, each hold.
func TestBillingAgreesWithAModel(t *testing.T) {
	b := setup(t, localkafka.Embedded, stack.Instances(1, 2, 2))
	teller := newTeller(b, contract.TopicReplies)
	b.duplicate(contract.TopicCommands, contract.TopicReplies)
	const groups, perGroup, steps = 12, 4, 60
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var running errgroup.Group
	for group := range groups {
		accounts := b.accounts(perGroup, "")
		running.Go(func() error {
			random := rand.New(rand.NewPCG(seed, uint64(group)))
			m := &model{actual: map[uuid.UUID]int64{}, frozen: map[uuid.UUID]int64{}, holds: map[uuid.UUID]*modelHold{}}
			for step := range steps {
				c, queue, reason, apply := m.step(random, accounts)
				id := uuid.New()
				c.CommandID = &id
				var got outcome
				var err error
				if random.IntN(2) == 0 {
					got, err = overHTTP(t.Context(), b, c, 1+random.IntN(2))
				} else {
					got, err = overBroker(t.Context(), teller, queue, c, 1+random.IntN(2))
				}
				if err != nil {
					return fmt.Errorf("group %d, step %d, %+v: %w", group, step, c, err)
				}
				if got.reason != reason {
					return fmt.Errorf("group %d, step %d, %+v ended with %q, the model says %q", group, step, c, got.reason, reason)
				}
				if reason == "" {
					apply(got.operation)
				}
			}
			return m.compare(b, accounts)
		})
	}
	if err := running.Wait(); err != nil {
		t.Fatal(err)
	}
	b.audit(map[string]int64{})
}

type outcome struct {
	operation uuid.UUID
	reason    string
}

func overBroker(ctx context.Context, teller *teller, queue uuid.UUID, c contract.Command, times int) (outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	reply, err := teller.ask(ctx, queue, c, times)
	if err != nil || reply.OperationID == nil {
		return outcome{}, fmt.Errorf("reply %+v, %w", reply, err)
	}
	return outcome{*reply.OperationID, reply.Reason}, nil
}

// overHTTP sends a command as a request with its ID as the key, so many copies at once, which
// must all get the same answer.
func overHTTP(ctx context.Context, b *bundle, c contract.Command, times int) (outcome, error) {
	key := c.CommandID.String()
	body := map[string]any{}
	if c.Amount != "" {
		body["amount"], body["currency"] = c.Amount, c.Currency
	}
	var path string
	switch c.Operation {
	case "deposit", "withdraw", "hold":
		path = fmt.Sprintf("/api/v1/accounts/%s/%s", c.AccountID,
			map[string]string{"deposit": "deposits", "withdraw": "withdrawals", "hold": "holds"}[c.Operation])
	case "transfer":
		path = "/api/v1/transfers"
		body["from_account_id"], body["to_account_id"] = c.FromAccountID, c.ToAccountID
	default:
		path = fmt.Sprintf("/api/v1/holds/%s/%s", c.HoldID, c.Operation)
		delete(body, "currency")
	}
	outcomes := make([]outcome, times)
	err := load.Each(ctx, times, times, func(i int) error {
		var answer struct {
			ID          uuid.UUID `json:"id"`
			OperationID uuid.UUID `json:"operation_id"`
			Code        string    `json:"code"`
		}
		err := b.client.Retry(ctx, path+"?wait=30s", key, body, &answer)
		var status *load.StatusError
		if errors.As(err, &status) && status.Status == 422 {
			err = json.Unmarshal([]byte(status.Body), &answer)
			answer.ID = answer.OperationID
		}
		outcomes[i] = outcome{answer.ID, answer.Code}
		return err
	})
	if err != nil {
		return outcome{}, err
	}
	if outcomes[0] != outcomes[times-1] {
		return outcome{}, fmt.Errorf("copies of a request ended differently: %v", outcomes)
	}
	return outcomes[0], nil
}

// compare reads the balances, holds and statements of the accounts.
func (m *model) compare(b *bundle, accounts []uuid.UUID) error {
	for _, account := range accounts {
		var got contract.Balances
		if err := b.client.Call("GET", "/api/v1/accounts/"+account.String()+"/balance", "", nil, &got); err != nil {
			return err
		}
		actual, frozen := cents(m.actual[account]), cents(m.frozen[account])
		if len(got.Actual) == 0 {
			got.Actual, got.Frozen = map[string]string{"RUB": "0.00"}, map[string]string{"RUB": "0.00"}
		}
		if got.Actual["RUB"] != actual || got.Frozen["RUB"] != frozen {
			return fmt.Errorf("account %s has %v, the model %s actual and %s frozen", account, got, actual, frozen)
		}
	}
	for id, hold := range m.holds {
		var got struct {
			Status string `json:"status"`
		}
		if err := b.client.Call("GET", "/api/v1/holds/"+id.String(), "", nil, &got); err != nil {
			return err
		}
		if (got.Status == "open") != hold.open {
			return fmt.Errorf("hold %s is %s, the model says open: %v", id, got.Status, hold.open)
		}
	}
	return nil
}

// Commands of one client take effect in the order in which they were sent, while many other clients proceed, through a
// killed instance and the rebalances that it causes.
func TestCommandsOfAClientKeepTheirOrder(t *testing.T) {
	b := setup(t, localkafka.Embedded, stack.Instances(1, 3, 0))
	teller := newTeller(b, contract.TopicReplies)
	const watched, numbered, others, rounds = 5, 200, 2000, 20
	clients := b.accounts(watched, "")
	crowd := b.accounts(others, "")
	sent := 0
	var faults errgroup.Group
	for round := range rounds {
		var messages []kafka.Message
		for range numbered / rounds {
			sent++
			for _, client := range clients {
				messages = append(messages, deposit(t, client, int64(sent)))
			}
			for range others / numbered {
				messages = append(messages, deposit(t, crowd[rand.IntN(others)], 1))
			}
		}
		for _, err := range teller.producer.Produce(t.Context(), messages) {
			if err != nil {
				t.Fatal(err)
			}
		}
		if round == rounds/3 {
			faults.Go(func() error { return b.crash("payments-2") })
		}
	}
	if err := faults.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, client := range clients {
		b.until(numbered, `SELECT count(*) FROM entries WHERE account_id = $1`, client)
		var amounts []int64
		if err := b.payments.Select(&amounts, `SELECT amount FROM entries WHERE account_id = $1 ORDER BY number`,
			client); err != nil {
			t.Fatal(err)
		}
		for i, amount := range amounts {
			if amount != int64(i+1) {
				t.Fatalf("entry %d of client %s is command %d: %v", i+1, client, amount, amounts)
			}
		}
	}
	b.audit(map[string]int64{})
}

func deposit(t *testing.T, account uuid.UUID, minor int64) kafka.Message {
	id := uuid.New()
	m, err := record(account, contract.Command{CommandID: &id, Operation: "deposit", AccountID: &account,
		Amount: money.Decimal(cents(minor)), Currency: "RUB"})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// until waits for a query on payments to count n.
func (b *bundle) until(n int, query string, args ...any) {
	b.Helper()
	postgrestest.AwaitCount(b, b.payments, n, query, args...)
}
