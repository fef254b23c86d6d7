package system

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"github.com/altyn-pay/altyn/deploy/audit"
	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/testkit/kfaketest"
	"github.com/altyn-pay/altyn/testkit/localkafka"
	"github.com/altyn-pay/altyn/testkit/wait"
)

var modelTime = flag.Duration("model.time", time.Minute, "how long the whole system is held against the model")

// theRecords are a victim too: the broker loses what it has stored of the events between the services.
const theRecords = "records"

// groups of accounts act at the same time; what one of them does is done step by step.
const (
	groups         = 16
	accountsOfEach = 3
	minSteps       = 200 // fewer are drawn as steps that do nothing
	maxSteps       = 300
)

// shortPatience is enough for a system that works: with it the script that fails is made smaller.
const shortPatience = 20 * time.Second

// currencies have two digits each.
var currencies = []string{"RUB", "USD"}

// step is one draw: what is to be done, and to what, as far as there is something to which it can be done.
type step struct {
	Group, Account, Other, Currency int
	Kind, Race                      string // Race is done to the same thing at the same time
	Amount                          int64
	Part                            bool // not the whole amount
	Which                           int
	Manual, Goods, Early            bool
	Word                            string
	Wait, Brief                     bool
	AtDeadline                      bool // it is done when something is due
	Transaction                     bool // word of the goods comes in a transaction of Kafka
	Copies                          int  // of each request, under one key
	Protocol                        int  // 0: over the broker or gRPC, where that can be
}

var (
	kinds = []string{"", "deposit", "withdraw", "withdraw", "transfer", "transfer", "hold", "order", "order", "order",
		"order", "order", "order",
		"word", "word", "confirm", "confirm", "reject", "refund", "refund", "cancel", "cancel", "capture", "release", "end",
		"end", "again",
		"replay", "batch", "batch", "give up", "guess", "guess", "guess", "guess"}
	raced = []string{"", "", "", "", "deposit", "word", "confirm", "reject", "refund", "cancel"}
	// Mostly nobody is killed.
	victims = slices.Concat(make([]string, 16),
		[]string{"payments", "payments-2", "orders", "gateway", theRecords, theRecords})

	words = []string{contract.InventoryCompleted, contract.InventoryCompleted, contract.InventoryCompleted,
		contract.InventoryFailed, "RESERVED"}
)

// uniform draws a number below n. The library's own numbers are small more often than not, which
// is not what is wanted here.
func uniform(t *rapid.T, n int) int {
	x := 0
	for limit := 1; limit < 8*n; limit *= 2 {
		x *= 2
		if rapid.Bool().Draw(t, "bit") {
			x++
		}
	}
	return x % n
}

func one[T any](t *rapid.T, of []T) T { return of[uniform(t, len(of))] }

func drawStep(t *rapid.T) step {
	return step{
		Kind: one(t, kinds), Race: one(t, raced), Group: uniform(t, groups), Account: uniform(t, accountsOfEach),
		Other:    uniform(t, accountsOfEach),
		Currency: one(t, []int{0, 0, 0, 1}), Amount: int64(1 + uniform(t, 400)), Part: uniform(t, 2) == 1,
		Which:  uniform(t, 60),
		Manual: uniform(t, 2) == 1, Goods: uniform(t, 3) == 2, Early: uniform(t, 3) == 2, Word: one(t, words),
		Wait: uniform(t, 2) == 1, Brief: uniform(t, 6) == 5, AtDeadline: uniform(t, 2) == 1, Transaction: uniform(t, 4) == 3,
		Copies: 1 + uniform(t, 4)/3, Protocol: uniform(t, 3),
	}
}

// Whatever the clients of three tenants ask of orders, payments and accounts, over whichever protocol, in whatever
// order, with whatever is repeated and whichever service is killed meanwhile, everything ends as a simple model says:
// each order, payment, operation, hold and balance. They guess each other's IDs, keys and references too, and see and
// move nothing. Where two things happen at the same time, or a deadline decides, the model has all the worlds that
// there may be, and one of them must be the real one.
func TestSagasAgreeWithAModel(t *testing.T) {
	services := stack.Instances(2, 2, 0)
	for i := range services {
		services[i].Env = []string{"ORDERS_HEAL_AFTER=1s", "PAYMENTS_HEAL_AFTER=1s"}
	}
	s := newSaga(t, localkafka.Embedded, append(services, stack.Service{Name: stack.Issuer, Program: stack.Issuer}))
	trial := &trial{saga: s, transactor: s.newTransactor(), events: newRecorder(s), patience: patience,
		teller: newTeller(s.bundle, s.replyTopics()...), rpc: newRPC(), ends: map[string]int{}}
	defer trial.rpc.CloseIdleConnections()
	trial.awaitTopics()
	var (
		deadline = time.Now().Add(*modelTime)
		checks   int
		steps    int
		failed   bool // rapid now looks for the smallest script that fails, which takes its time
	)
	for time.Now().Before(deadline) && !t.Failed() {
		rapid.Check(t, func(rt *rapid.T) {
			script := rapid.SliceOfN(rapid.Custom(drawStep), minSteps, maxSteps).Draw(rt, "steps")
			victim := rapid.Custom(func(t *rapid.T) string { return one(t, victims) }).Draw(rt, "victim")
			if !failed && time.Now().After(deadline) {
				return
			}
			checks++
			steps += len(script)
			if err := trial.play(script, victim); err != nil {
				if !failed {
					t.Logf("first failure: %v", err) // what follows may not fail in the same way
				}
				failed, trial.patience = true, shortPatience
				rt.Fatal(err)
			}
		})
	}
	t.Logf("%d checks of %d steps in all", checks, steps)
	for _, end := range slices.Sorted(maps.Keys(trial.ends)) {
		t.Logf("%5d × %s", trial.ends[end], end)
	}
}

// trial is what all checks share: the running system, the events that were on its topics, and how
// often things have ended how.
type trial struct {
	*saga
	transactor *transactor
	events     *recorder
	teller     *teller
	rpc        *http.Client
	patience   time.Duration
	audit      []audit.Option

	parties []*party // of this play
	things  *things  // that they have made

	mu   sync.Mutex
	ends map[string]int
}

// replyTopics makes the topics for replies.
func (s *saga) replyTopics() []string {
	s.Helper()
	topics := []string{contract.TopicReplies}
	for _, tenant := range tenants {
		topics = append(topics, replies(tenant), guesses(tenant))
	}
	cfg, err := s.KafkaConfig()
	if err == nil {
		err = kafka.EnsureTopics(s.Context(), cfg, topics...)
	}
	if err != nil {
		s.Fatal(err)
	}
	return topics
}

// awaitTopics waits until both instances of payments have heard of the new topics, and reply there.
func (s *trial) awaitTopics() {
	s.Helper()
	const commands = 20 // on any partitions, and so to both instances
	if err := load.Each(s.Context(), len(tenants), len(tenants), func(n int) error {
		p, err := s.newParty(uuid.NewString(), n)
		if err != nil {
			return err
		}
		balance := map[string]any{"operation": "balance", "account_id": uuid.New()}
		for _, topic := range []string{replies(tenants[n]), guesses(tenants[n])} {
			for range commands {
				if err := wait.Within(patience, time.Millisecond, func() error {
					_, err := p.command(time.Second, balance, p.key(), topic, topic)
					return err
				}); err != nil {
					return err
				}
			}
		}
		return nil
	}); err != nil {
		s.Fatal(err)
	}
}

// play plays a script, and holds everything against the model in the end.
func (s *trial) play(script []step, victim string) error {
	run := uuid.NewString()
	s.things, s.parties = &things{all: map[uuid.UUID]owned{}}, make([]*party, groups)
	accounts := make([][]uuid.UUID, groups)
	if err := load.Each(s.Context(), groups, 8, func(n int) (err error) {
		if s.parties[n], err = s.newParty(run, n); err == nil {
			accounts[n], err = s.parties[n].open("5.00")
		}
		return err
	}); err != nil {
		return err
	}
	var running errgroup.Group
	for n, party := range s.parties {
		g := &group{party: party, accounts: accounts[n], world: &world{late: none}, armed: none}
		for range g.accounts {
			g.world.purses = append(g.world.purses, purse{actual: 500}, purse{})
		}
		g.world.purses = append(g.world.purses, purse{missing: true})
		g.accounts = append(slices.Clone(g.accounts), uuid.New())
		running.Go(func() error {
			for i, step := range script {
				if step.Group != n {
					continue
				}
				if err := g.play(step); err != nil {
					return fmt.Errorf("group %d, step %d, %+v: %w", n, i, step, err)
				}
			}
			if err := g.end(); err != nil {
				return fmt.Errorf("group %d, at the end: %w", n, err)
			}
			return nil
		})
	}
	if victim != "" {
		s.count("loss of " + victim)
		if victim == theRecords {
			s.audit = []audit.Option{audit.EventsLost} // of what is stored, for good
			s.loseRecords()
		} else {
			running.Go(func() error { return s.crash(victim) })
		}
	}
	if err := running.Wait(); err != nil {
		return err
	}
	if err := s.WaitReady(s.Context()); err != nil {
		return err
	}
	for _, party := range s.parties {
		if err := party.seesItsOwn(); err != nil {
			return err
		}
	}
	if err := s.events.check(s.things); err != nil {
		return err
	}
	_, err := s.books(s.audit...)
	return err
}

// loseRecords deletes what is on the topics between the services, some times in a row while everything goes on.
func (s *trial) loseRecords() {
	s.Helper()
	cfg, err := s.KafkaConfig()
	if err != nil {
		s.Fatal(err)
	}
	for range 5 {
		for _, topic := range []string{contract.TopicOrders, contract.TopicPayments} {
			kfaketest.DeleteRecords(s.T, cfg, topic)
		}
	}
}

func (s *trial) count(end string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ends[end]++
}

// recorder keeps the events of orders, as they were on the topics.
type recorder struct {
	mu     sync.Mutex
	events map[uuid.UUID][]kafka.Message
}

func newRecorder(s *saga) *recorder {
	s.Helper()
	cfg, err := s.KafkaConfig()
	if err != nil {
		s.Fatal(err)
	}
	topics := []string{contract.TopicOrders, contract.TopicPayments, contract.TopicInventory}
	consumer, err := kafka.NewConsumer(cfg, "recorder", topics, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		s.Fatal(err)
	}
	r := &recorder{events: map[uuid.UUID][]kafka.Message{}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- consumer.Run(ctx, func(_ context.Context, messages []kafka.Message) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			for _, m := range messages {
				var about struct {
					OrderID uuid.UUID `json:"order_id"`
				}
				if err := json.Unmarshal(m.Value, &about); err != nil {
					return fmt.Errorf("event %s: %w", m.Value, err)
				}
				for _, token := range m.Authorization { // for replays
					m.Headers = append(m.Headers, kafka.Header{Key: contract.AuthorizationHeader, Value: []byte(token)})
				}
				r.events[about.OrderID] = append(r.events[about.OrderID], m)
			}
			return nil
		})
	}()
	s.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			s.Error(err)
		}
	})
	return r
}

// check expects each event of a party's order to be its tenant's.
func (r *recorder) check(things *things) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	things.mu.Lock()
	defer things.mu.Unlock()
	for order, events := range r.events {
		of, known := things.all[order]
		for _, m := range events {
			if tenant := cmp.Or(kafka.EventOf(m).Tenant, identity.DefaultTenant); known &&
				m.Topic != contract.TopicInventory && tenant != of.by.reach.Tenant {
				return fmt.Errorf("an event of the order %s of %+v is the tenant %s's: %s", order, of.by.reach, tenant, m.Value)
			}
		}
	}
	return nil
}

// replay publishes all events of an order once more.
func (r *recorder) replay(s *saga, order uuid.UUID) error {
	r.mu.Lock()
	events := r.events[order]
	delete(r.events, order) // they come in again
	r.mu.Unlock()
	return errors.Join(s.producer.Produce(s.Context(), events)...)
}
