package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/stage"
)

// What clients ask for.
const (
	account    = "account"
	deposit    = "deposit"
	withdrawal = "withdrawal"
	transfer   = "transfer"
	order      = "order"
	confirm    = "confirm"
	reject     = "reject"
	refund     = "refund"
	cancel     = "cancel"
)

// Act is a request that changes something, as its client knows it.
type Act struct {
	What     string    `json:"what"`
	Key      string    `json:"key"`
	Account  uuid.UUID `json:"account_id"`
	To       uuid.UUID `json:"to_account_id,omitzero"`
	Order    uuid.UUID `json:"order_id,omitzero"`
	Amount   int64     `json:"amount,omitempty"` // minor units; of a confirmation or refund, too
	Begun    time.Time `json:"begun"`
	Answered time.Time `json:"answered,omitzero"` // with success; zero where nobody knows what became of it

	manual bool // of an order: it is to be confirmed
	path   string
	body   any
}

// traffic is what many clients do, and what they know of it.
type traffic struct {
	client   *load.Client
	producer *kafka.Producer // of the inventory system
	seed     uint64
	accounts []uuid.UUID // that have begun with money

	mu   sync.Mutex
	acts []Act
}

const (
	accounts = 100
	clients  = 16
	funded   = 1_000_00 // what each account begins with
	currency = "RUB"
	tooMuch  = 1_000_000_00
)

func (s *Site) newTraffic(ctx context.Context, seed uint64) (*traffic, error) {
	cfg, err := s.KafkaConfig()
	if err != nil {
		return nil, err
	}
	t := &traffic{client: load.New(s.URL("gateway")), seed: seed}
	if t.producer, err = kafka.NewProducer(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry()); err != nil {
		return nil, err
	}
	if t.accounts, err = t.client.Accounts(ctx, accounts, clients, decimal(funded), currency); err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

func (t *traffic) close() {
	t.client.Close()
	t.producer.Close()
}

// run has clients come at a rate until ctx ends, which is no error.
func (t *traffic) run(ctx context.Context, rate float64) error {
	const (
		forever  = time.Hour
		inFlight = 10_000
	)
	loop := load.OpenLoop{Rate: rate, Duration: forever, InFlight: inFlight}
	_, err := loop.Run(ctx, func(i int) error { return t.come(ctx, i) })
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// visit asks a service for something that is nobody else's matter.
func (t *traffic) visit(ctx context.Context, service string, i int) error {
	a := Act{Account: t.accounts[i%len(t.accounts)], Amount: 1_00}
	if service == stack.Payments {
		return t.money(ctx, deposit, a)
	}
	_, _, err := t.place(ctx, a, load.NewOrder{})
	return err
}

// visits goes on with a service until ctx ends.
func (t *traffic) visits(ctx context.Context, service string) (err error) {
	const pause = 20 * time.Millisecond
	for i := 0; err == nil && stage.Wait(ctx, pause); i++ {
		err = t.visit(ctx, service, i)
	}
	return err
}

// come is what one client does.
func (t *traffic) come(ctx context.Context, i int) error {
	r := rand.New(rand.NewPCG(t.seed, uint64(i)))
	a := Act{Account: t.accounts[r.IntN(len(t.accounts))], Amount: 1 + r.Int64N(50_00)}
	switch r.IntN(10) {
	case 0:
		return t.money(ctx, deposit, a)
	case 1:
		return t.money(ctx, withdrawal, a)
	case 2:
		a.To = t.accounts[r.IntN(len(t.accounts))]
		if a.To == a.Account {
			return t.money(ctx, deposit, a)
		}
		return t.money(ctx, transfer, a)
	case 3:
		return t.newcomer(ctx, a)
	}
	return t.saga(ctx, r, a)
}

// money moves money over HTTP.
func (t *traffic) money(ctx context.Context, what string, a Act) error {
	body := map[string]string{"amount": decimal(a.Amount), "currency": currency}
	path := "/api/v1/accounts/" + a.Account.String() + "/" + what + "s"
	if what == transfer {
		path = "/api/v1/transfers"
		body["from_account_id"], body["to_account_id"] = a.Account.String(), a.To.String()
	}
	_, _, err := t.ask(ctx, what, a, path+"?wait=30s", body)
	return err
}

// newcomer opens an account and places an order before there is money, which waits for it.
func (t *traffic) newcomer(ctx context.Context, a Act) error {
	opened, ok, err := t.ask(ctx, account, Act{}, "/api/v1/accounts", map[string]string{"owner": "a newcomer"})
	if err != nil || !ok {
		return err
	}
	a.Account = opened
	if _, ok, err = t.place(ctx, a, load.NewOrder{OnInsufficient: contract.OnInsufficientWait}); err != nil || !ok {
		return err
	}
	return t.money(ctx, deposit, a)
}

// saga places an order, and sees to it that it goes on.
func (t *traffic) saga(ctx context.Context, r *rand.Rand, a Act) error {
	var of load.NewOrder
	if a.manual = r.IntN(2) == 0; a.manual {
		of.Capture = contract.CaptureManual
	}
	if r.IntN(8) == 0 {
		a.Amount = tooMuch
	}
	of.AwaitInventory = r.IntN(5) == 0
	id, ok, err := t.place(ctx, a, of)
	if err != nil || !ok {
		return err
	}
	if of.AwaitInventory {
		word := contract.InventoryCompleted
		if r.IntN(4) == 0 {
			word = contract.InventoryFailed
		}
		goods := contract.Inventory{IdempotentKey: uuid.New(), OrderID: id, Status: word}
		if err := t.tell(ctx, a.Account, goods); err != nil {
			return err
		}
	}
	status, err := t.status(ctx, id)
	if err != nil {
		return err
	}
	a.Order = id
	part := 1 + r.Int64N(a.Amount)
	switch next := r.IntN(4); {
	case next == 0 && status == "authorized":
		return t.step(ctx, confirm, a, part)
	case next == 1 && status == "authorized":
		return t.step(ctx, reject, a, 0)
	case next == 2 && status == "paid":
		return t.step(ctx, refund, a, part)
	case next == 3 && (status == "authorized" || status == "paid"):
		_, _, err := t.ask(ctx, cancel, a, load.OrdersPath+"/"+id.String()+"/cancel", struct{}{})
		return err
	}
	return nil
}

func (t *traffic) step(ctx context.Context, what string, a Act, amount int64) error {
	a.Amount = amount
	body := map[string]string{}
	if amount > 0 {
		body["amount"] = decimal(amount)
	}
	_, _, err := t.ask(ctx, what, a, "/api/v1/payments/"+a.Order.String()+"/"+what+"?wait=30s", body)
	return err
}

func (t *traffic) place(ctx context.Context, a Act, of load.NewOrder) (id uuid.UUID, ok bool, err error) {
	of.AccountID, of.Amount, of.Currency = a.Account, decimal(a.Amount), currency
	return t.ask(ctx, order, a, load.OrdersPath, of)
}

// tell has the inventory system say what became of an order's goods.
func (t *traffic) tell(ctx context.Context, key uuid.UUID, word contract.Inventory) error {
	text, err := json.Marshal(word)
	if err != nil {
		return err
	}
	return errors.Join(t.producer.Produce(ctx, []kafka.Message{
		{Topic: contract.TopicInventory, Key: []byte(key.String()), Value: text}})...)
}

// status waits until an order is no longer pending, for a while, and returns its status.
func (t *traffic) status(ctx context.Context, id uuid.UUID) (string, error) {
	var o load.Order
	err := t.client.Get(ctx, load.OrdersPath+"/"+id.String()+"?wait=5s", &o)
	if ctx.Err() != nil {
		return "pending", nil
	}
	return o.Status, err
}

// ask sends a request under a key of its own until it is answered or ctx ends, and notes it. It reports whether it
// succeeded, and the ID in the answer. What is refused for the state of things is not noted, since it has no effect.
func (t *traffic) ask(ctx context.Context, what string, a Act, path string, body any) (uuid.UUID, bool, error) {
	a.What, a.Key, a.Begun, a.path, a.body = what, uuid.NewString(), time.Now(), path, body
	if what == order {
		a.Order = contract.DerivedID(load.OrdersPath, a.Account, a.Key)
	}
	id, refused, err := t.send(ctx, &a)
	if refused || err != nil && ctx.Err() == nil {
		return uuid.Nil, false, err
	}
	t.mu.Lock()
	t.acts = append(t.acts, a)
	t.mu.Unlock()
	return id, !a.Answered.IsZero(), nil
}

// send sends the request of an act.
func (t *traffic) send(ctx context.Context, a *Act) (id uuid.UUID, refused bool, err error) {
	var answer struct {
		ID     uuid.UUID `json:"id"`
		Status string    `json:"status"`
	}
	err = t.client.Retry(ctx, a.path, a.Key, a.body, &answer)
	if status := (*load.StatusError)(nil); errors.As(err, &status) && status.Status == 422 {
		return uuid.Nil, true, nil
	}
	if err != nil {
		return uuid.Nil, false, fmt.Errorf("%s %s: %w", a.What, a.path, err)
	}
	if answer.Status != contract.PaymentCreated { // else it is accepted, and not settled
		a.Answered = time.Now()
	}
	if a.What == account {
		a.Account = answer.ID
	}
	return answer.ID, false, nil
}

func decimal(minor int64) string { return fmt.Sprintf("%d.%02d", minor/100, minor%100) }
