package system

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/testkit/localkafka"
	"github.com/altyn-pay/altyn/testkit/wait"
)

// saga is a running stack with what the steps of sagas need. What a test has seen last of an order is kept, so that at
// the end every order is looked at once more.
type saga struct {
	*bundle
	producer *kafka.Producer
	seen     *seen
}

type seen struct {
	mu     sync.Mutex
	orders map[uuid.UUID]string
}

func newSaga(t *testing.T, kind localkafka.Kind, services []stack.Service) *saga {
	t.Helper()
	b := setup(t, kind, services)
	// Once a first order is paid, all parts have found each other, which can take longer than a short deadline.
	if order := b.place(b.accounts(1, "1.00")[0], "1.00", "?wait=30s"); order.Status != "paid" {
		t.Fatalf("the first order is %+v", order)
	}
	return &saga{bundle: b, producer: b.newProducer(), seen: &seen{orders: map[uuid.UUID]string{}}}
}

// on is the saga for a test below the one that it was made for.
func (s *saga) on(t *testing.T) *saga {
	b := *s.bundle
	b.T = t
	return &saga{&b, s.producer, s.seen}
}

func (b *bundle) newProducer() *kafka.Producer {
	b.Helper()
	cfg, err := b.KafkaConfig()
	if err != nil {
		b.Fatal(err)
	}
	producer, err := kafka.NewProducer(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(producer.Close)
	return producer
}

// patience is how long a test waits for what must happen.
const patience = time.Minute

func (b *bundle) eventually(condition func() error) {
	b.Helper()
	if err := wait.Within(patience, 5*time.Millisecond, condition); err != nil {
		b.Fatal(err)
	}
}

func (b *bundle) get(path string, out any) {
	b.Helper()
	if err := b.client.Get(b.Context(), path, out); err != nil {
		b.Fatalf("GET %s: %v", path, err)
	}
}

func (s *saga) account(amount string) uuid.UUID {
	s.Helper()
	return s.accounts(1, amount)[0]
}

// place places an order in roubles.
func (s *saga) place(order load.NewOrder) uuid.UUID {
	s.Helper()
	order.Currency = "RUB"
	placed, err := s.client.Place(s.Context(), uuid.NewString(), order)
	if err != nil || placed.Status != "pending" {
		s.Fatalf("%+v: %+v, %v", order, placed, err)
	}
	return placed.ID
}

// await waits until an order has a status and a reason.
func (s *saga) await(id uuid.UUID, status, reason string) load.Order {
	s.Helper()
	var order load.Order
	s.eventually(func() error {
		order = load.Order{} // what is left out is empty
		s.get(load.OrdersPath+"/"+id.String(), &order)
		if order.Status != status || order.Reason != reason &&
			(status == "pending" || status == "failed" || status == "cancelled") {
			return fmt.Errorf("order %+v is not %s %s", order, status, reason)
		}
		return nil
	})
	s.seen.mu.Lock()
	s.seen.orders[id] = status
	s.seen.mu.Unlock()
	return order
}

// unchanged expects every order to be as it was seen last.
func (s *saga) unchanged() {
	s.Helper()
	for id, status := range s.seen.orders {
		var order load.Order
		if s.get(load.OrdersPath+"/"+id.String(), &order); order.Status != status {
			s.Errorf("order %+v was %s", order, status)
		}
	}
}

// timeline expects the lines of an order's timeline, each a status and the reason where there is one, each
// brought by an event of its own.
func (s *saga) timeline(id uuid.UUID, want ...string) {
	s.Helper()
	var timeline struct {
		Items []struct {
			Status  string     `json:"status"`
			Reason  string     `json:"reason"`
			Note    string     `json:"note"`
			EventID *uuid.UUID `json:"event_id"`
			At      time.Time  `json:"at"`
		} `json:"items"`
	}
	s.get(load.OrdersPath+"/"+id.String()+"/timeline", &timeline)
	var got []string
	events := map[uuid.UUID]bool{}
	last := time.Time{}
	for _, item := range timeline.Items {
		got = append(got, strings.Join(strings.Fields(item.Status+" "+item.Reason+" "+item.Note), " "))
		if item.EventID == nil || events[*item.EventID] || item.At.Before(last) {
			s.Errorf("timeline %+v: a line without an event of its own, or before the one before", timeline)
			return
		}
		events[*item.EventID], last = true, item.At
	}
	if !slices.Equal(got, want) {
		s.Errorf("timeline %q, want %q", got, want)
	}
}

// payment expects the payment of an order to be as GET tells it.
func (s *saga) payment(id uuid.UUID, status, reason, captured, refunded string) {
	s.Helper()
	var p contract.Payment
	s.get("/api/v1/payments/"+id.String(), &p)
	if p.OrderID != id || p.Status != status || p.Reason != reason || p.CapturedAmount != captured ||
		p.RefundedAmount != refunded {
		s.Errorf("payment %+v, want %s %q, captured %s, refunded %s", p, status, reason, captured, refunded)
	}
}

// balance expects what an account has in roubles.
func (b *bundle) balance(account uuid.UUID, actual, frozen string) {
	b.Helper()
	var got contract.Balances
	b.get("/api/v1/accounts/"+account.String()+"/balance", &got)
	if got.Actual["RUB"] != actual || got.Frozen["RUB"] != frozen {
		b.Errorf("account %s has %v, want %s actual and %s frozen", account, got, actual, frozen)
	}
}

// refused expects an error to be an answer with a status and one of some codes.
func (b *bundle) refused(err error, status int, codes ...string) {
	b.Helper()
	var answer *load.StatusError
	if !errors.As(err, &answer) || answer.Status != status || !slices.Contains(codes, answer.Code()) {
		b.Errorf("%v, want %d %s", err, status, codes)
	}
}

// post sends a request under a key.
func (b *bundle) post(path, key string, body, out any) error {
	return b.client.Retry(b.Context(), path, key, body, out)
}

// amount is a body with an amount in roubles and further fields, in pairs.
func amount(amount string, more ...string) map[string]string {
	body := map[string]string{"amount": amount, "currency": "RUB"}
	for i := 0; i < len(more); i += 2 {
		body[more[i]] = more[i+1]
	}
	return body
}

// waits expects a request to be answered at once with 202: it waits for money. It returns the operation's ID.
func (b *bundle) waits(path string, body any) uuid.UUID {
	b.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		b.Fatal(err)
	}
	request, err := http.NewRequestWithContext(b.Context(), http.MethodPost, b.URL("gateway")+path,
		strings.NewReader(string(text)))
	if err != nil {
		b.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	began := time.Now()
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	var op contract.Operation
	err = json.NewDecoder(response.Body).Decode(&op)
	if err != nil || response.StatusCode != http.StatusAccepted ||
		response.Header.Get("Location") != "/api/v1/operations/"+op.ID.String() ||
		op.Status != "created" || op.Reason != "waiting_for_funds" {
		b.Fatalf("%s %s: %s, %v, %+v, %v", path, text, response.Status, response.Header, op, err)
	}
	// Without being told that it waits, the request would be answered after 5 s.
	if took := time.Since(began); took > 4*time.Second {
		b.Errorf("%s was answered after %s, not at once", path, took)
	}
	return op.ID
}

// settled waits for an operation to have ended, with a reason or with success.
func (b *bundle) settled(operation uuid.UUID, reason string) {
	b.Helper()
	var op contract.Operation
	b.eventually(func() error {
		op = contract.Operation{}
		b.get("/api/v1/operations/"+operation.String()+"?wait=20s", &op)
		if op.Status == "created" || op.Reason != reason {
			return fmt.Errorf("operation %+v, want the reason %q", op, reason)
		}
		return nil
	})
}

// tell says on the topic what became of orders' goods. Messages of the same key keep their order.
func (s *saga) tell(key uuid.UUID, messages ...contract.Inventory) error {
	return s.tellWith(nil, key, messages...)
}

// tellWith does it with headers.
func (s *saga) tellWith(headers []kafka.Header, key uuid.UUID, messages ...contract.Inventory) error {
	records := make([]kafka.Message, len(messages))
	for i, m := range messages {
		value, err := json.Marshal(m)
		if err != nil {
			return err
		}
		records[i] = kafka.Message{Topic: contract.TopicInventory, Key: []byte(key.String()), Value: value,
			Headers: headers}
	}
	return errors.Join(s.producer.Produce(s.Context(), records)...)
}

func (s *saga) inventory(key uuid.UUID, messages ...contract.Inventory) {
	s.Helper()
	if err := s.tell(key, messages...); err != nil {
		s.Fatal(err)
	}
}

func goods(order uuid.UUID, status string) contract.Inventory {
	return contract.Inventory{IdempotentKey: uuid.New(), OrderID: order, Status: status}
}
