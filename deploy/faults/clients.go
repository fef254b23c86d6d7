package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/stage"
)

const (
	// patience is how long a client asks for an answer, whatever is harmed meanwhile.
	patience = 3 * time.Minute
	// clientsOfEach is how many clients a group has that change something; one more only looks.
	clientsOfEach = 3
	// pause is the longest between two requests of a client.
	pause      = 200 * time.Millisecond
	retryPause = 50 * time.Millisecond
	currency   = "RUB"
)

// group is some accounts, the clients that move their money, and what these were told.
type group struct {
	site     *Site
	producer *kafka.Producer // of word of orders' goods
	count    func(what string)
	ids      []uuid.UUID // of the accounts
	moves    History

	mu         sync.Mutex
	orders     []*order
	operations []uuid.UUID // that were acknowledged
}

// order is an order of a group.
type order struct {
	id      uuid.UUID
	history History
	last    load.Order // as it was seen last by whoever has placed it
}

// firstDeposit is what an account begins with, in minor units.
const firstDeposit = 20_000

// newGroup opens the group's accounts.
func newGroup(ctx context.Context, site *Site, producer *kafka.Producer, count func(string)) (*group, error) {
	g := &group{site: site, producer: producer, count: count}
	c := &client{group: g}
	for i := range accountsOfEach {
		var account struct{ ID uuid.UUID }
		if err := g.post(ctx, "/api/v1/accounts", map[string]string{"owner": "faults"}, &account); err != nil {
			return nil, fmt.Errorf("open an account: %w", err)
		}
		g.ids = append(g.ids, account.ID)
		if err := c.put(ctx, i, firstDeposit); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// serverCodes are those with which a request may fail that was right.
var serverCodes = map[string]int{
	"unavailable": http.StatusServiceUnavailable, "overloaded": http.StatusServiceUnavailable,
	"outcome_unknown":      http.StatusServiceUnavailable,
	"upstream_unavailable": http.StatusBadGateway, "upstream_timeout": http.StatusGatewayTimeout,
}

// internals are what no client is to read.
var internals = regexp.MustCompile(`pq:|SQLSTATE|dial tcp|127\.0\.0\.1|goroutine|\.go:|kafka`)

// try sends a request until it is answered with what is no fault of a server. It returns the beginning of the attempt
// that was answered. The answers before it must be such as a client is told of.
func (g *group) try(ctx context.Context, method, path, key string, body, out any) (since int64, err error) {
	ctx, end := context.WithTimeout(ctx, patience)
	defer end()
	for {
		since = now()
		err := g.site.Client.Call(method, path, key, body, out)
		var refused *load.StatusError
		switch {
		case err == nil || errors.As(err, &refused) && refused.Status < 500:
			return since, err
		case refused == nil:
			g.count("answer lost")
		case serverCodes[refused.Code()] != refused.Status || internals.MatchString(refused.Body):
			return since, fmt.Errorf("%s %s is answered with %w", method, path, refused)
		default:
			g.count("answer " + strconv.Itoa(refused.Status) + " " + refused.Code())
		}
		if !stage.Wait(ctx, retryPause) {
			return since, fmt.Errorf("%s %s: %w, last: %w", method, path, context.Cause(ctx), err)
		}
	}
}

// post is try for a new request.
func (g *group) post(ctx context.Context, path string, body, out any) error {
	_, err := g.try(ctx, "POST", path, uuid.NewString(), body, out)
	return err
}

// operate asks for an operation and waits for its end. It reports whether that was refused for lack of money.
func (g *group) operate(ctx context.Context, path string, body any) (id uuid.UUID, refused bool, err error) {
	key := uuid.NewString()
	ctx, end := context.WithTimeout(ctx, patience)
	defer end()
	for {
		var op contract.Operation
		_, err := g.try(ctx, "POST", path, key, body, &op)
		var answer *load.StatusError
		if errors.As(err, &answer) && answer.Code() == "insufficient_funds" {
			var about struct {
				ID uuid.UUID `json:"operation_id"`
			}
			err = json.Unmarshal([]byte(answer.Body), &about)
			op.ID, refused = about.ID, true
		}
		if err != nil || refused || op.Status == "success" {
			if err == nil {
				g.mu.Lock()
				g.operations = append(g.operations, op.ID)
				g.mu.Unlock()
			}
			return op.ID, refused, err
		}
		if !stage.Wait(ctx, retryPause) {
			return op.ID, false, fmt.Errorf("operation %s is %s: %w", op.ID, op.Status, context.Cause(ctx))
		}
	}
}

// client is one of a group's.
type client struct {
	*group
	number int
	random *rand.Rand
}

// work does one thing after another until done is closed, and ends what it has begun.
func (c *client) work(ctx context.Context, done <-chan struct{}) error {
	things := []func(context.Context) error{
		c.deposit, c.deposit, c.withdraw, c.withdraw, c.transfer, c.transfer, c.transfer, c.hold, c.hold,
		c.automatic, c.automatic, c.automatic, c.manual, c.manual, c.manual, c.waiting, c.goods,
	}
	return c.repeat(ctx, done, func() error { return things[c.random.IntN(len(things))](ctx) })
}

// watch looks at accounts and orders until done is closed.
func (c *client) watch(ctx context.Context, done <-chan struct{}) error {
	return c.repeat(ctx, done, func() error {
		if err := c.balance(ctx, c.random.IntN(accountsOfEach)); err != nil {
			return err
		}
		c.mu.Lock()
		var some *order
		if n := len(c.orders); n > 0 {
			some = c.orders[n-1-c.random.IntN(min(n, 2*clientsOfEach))]
		}
		c.mu.Unlock()
		if some == nil {
			return nil
		}
		_, err := c.see(ctx, some, "")
		return err
	})
}

// repeat does something again and again, with pauses, until done is closed.
func (c *client) repeat(ctx context.Context, done <-chan struct{}, do func() error) error {
	for {
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(c.some(pause)):
		}
		if err := do(); err != nil {
			return err
		}
	}
}

func (c *client) some(most time.Duration) time.Duration {
	return time.Duration(c.random.Int64N(int64(most)))
}

func (c *client) amount() int64 { return 1 + c.random.Int64N(1000) }

func (c *client) path(account int, what string) string {
	return "/api/v1/accounts/" + c.ids[account].String() + "/" + what
}

func money(minor int64) map[string]string {
	return map[string]string{"amount": decimal(minor), "currency": currency}
}

func decimal(minor int64) string { return fmt.Sprintf("%d.%02d", minor/100, minor%100) }

func minor(decimal string) int64 {
	n, _ := strconv.ParseInt(strings.Replace(decimal, ".", "", 1), 10, 64) // "" is none
	return n
}

// only is a change of one purse.
func only(account int, actual, frozen int64) (by purses) {
	by[account] = purse{actual, frozen}
	return by
}

// move has money moved and notes the answer.
func (c *client) move(ctx context.Context, m move, path string, body any) (id uuid.UUID, done bool, err error) {
	since := now()
	id, refused, err := c.operate(ctx, path, body)
	if err != nil {
		return id, false, fmt.Errorf("%s: %w", m.what, err)
	}
	c.note(since, m, refused)
	return id, !refused, nil
}

func (c *client) note(since int64, m move, refused bool) {
	c.moves.add(c.number, since, m, moved{refused: refused})
	if refused {
		m.what += ", refused"
	}
	c.count(m.what)
}

func (c *client) balance(ctx context.Context, account int) error {
	var b contract.Balances
	since, err := c.try(ctx, "GET", c.path(account, "balance"), "", nil, &b)
	if err == nil {
		c.moves.add(c.number, since, move{what: "balance", account: account, balance: true},
			moved{balance: purse{minor(b.Actual[currency]), minor(b.Frozen[currency])}})
		c.count("balance")
	}
	return err
}

func (c *client) deposit(ctx context.Context) error {
	return c.put(ctx, c.random.IntN(accountsOfEach), 3*c.amount()) // as more things take money than bring it
}

func (c *client) put(ctx context.Context, account int, amount int64) error {
	_, _, err := c.move(ctx, move{what: "deposit", account: account, by: only(account, amount, 0)},
		c.path(account, "deposits"), money(amount))
	return err
}

func (c *client) withdraw(ctx context.Context) error {
	account, amount := c.random.IntN(accountsOfEach), c.amount()
	_, _, err := c.move(ctx, move{what: "withdrawal", account: account, needs: amount, by: only(account, -amount, 0)},
		c.path(account, "withdrawals"), money(amount))
	return err
}

func (c *client) transfer(ctx context.Context) error {
	account, amount := c.random.IntN(accountsOfEach), c.amount()
	payee := (account + 1 + c.random.IntN(accountsOfEach-1)) % accountsOfEach
	by := only(account, -amount, 0)
	by[payee].actual = amount
	body := money(amount)
	body["from_account_id"], body["to_account_id"] = c.ids[account].String(), c.ids[payee].String()
	_, _, err := c.move(ctx, move{what: "transfer", account: account, needs: amount, by: by}, "/api/v1/transfers", body)
	return err
}

// hold holds money, and then takes a part of it, or lets it go.
func (c *client) hold(ctx context.Context) error {
	account, amount := c.random.IntN(accountsOfEach), c.amount()
	id, done, err := c.move(ctx, move{what: "hold", account: account, needs: amount, by: only(account, -amount, amount)},
		c.path(account, "holds"), money(amount))
	if err != nil || !done {
		return err
	}
	if c.random.IntN(2) == 0 {
		_, _, err = c.move(ctx, move{what: "release", account: account, by: only(account, amount, -amount)},
			"/api/v1/holds/"+id.String()+"/release", struct{}{})
		return err
	}
	part := 1 + c.random.Int64N(amount)
	_, _, err = c.move(ctx, move{what: "capture", account: account, by: only(account, amount-part, -amount)},
		"/api/v1/holds/"+id.String()+"/capture", map[string]string{"amount": decimal(part)})
	return err
}

// place places an order.
func (c *client) place(ctx context.Context, account int, amount int64, with load.NewOrder) (*order, error) {
	with.AccountID, with.Amount, with.Currency = c.ids[account], decimal(amount), currency
	o := &order{}
	since := now()
	if err := c.post(ctx, load.OrdersPath, with, &o.last); err != nil {
		return nil, fmt.Errorf("place an order: %w", err)
	}
	o.id = o.last.ID
	o.history.add(c.number, since, place, told(o.last.Status))
	c.mu.Lock()
	c.orders = append(c.orders, o)
	c.mu.Unlock()
	return o, nil
}

// see looks at an order.
func (c *client) see(ctx context.Context, o *order, query string) (seen load.Order, err error) {
	since, err := c.try(ctx, "GET", load.OrdersPath+"/"+o.id.String()+query, "", nil, &seen)
	if err == nil {
		o.history.add(c.number, since, look, told(seen.Status))
	}
	return seen, err
}

// until looks at an order until it is in one of some statuses.
func (c *client) until(ctx context.Context, o *order, statuses ...string) (load.Order, error) {
	ctx, end := context.WithTimeout(ctx, patience)
	defer end()
	for {
		seen, err := c.see(ctx, o, "?wait=5s")
		if err != nil {
			return seen, err
		}
		if slices.Contains(statuses, seen.Status) {
			o.last = seen
			return seen, nil
		}
		if !stage.Wait(ctx, retryPause) {
			return seen, fmt.Errorf("order %s is %s, not %v: %w", o.id, seen.Status, statuses, context.Cause(ctx))
		}
	}
}

// automatic places an order that is paid at once, and then perhaps cancels it or returns a part.
func (c *client) automatic(ctx context.Context) error {
	account, amount := c.random.IntN(accountsOfEach), c.amount()
	o, paid, err := c.pay(ctx, account, amount, load.NewOrder{}, func(*order) error { return nil })
	if err != nil || !paid {
		return err
	}
	switch c.random.IntN(4) {
	case 0:
		return c.cancel(ctx, o, account, amount, 0)
	case 1:
		part, since := 1+c.random.Int64N(amount), now()
		if err := c.step(ctx, o, refund, map[string]string{"amount": decimal(part)}); err != nil {
			return err
		}
		c.note(since, move{what: "order, refund", account: account, by: only(account, part, 0)}, false)
	}
	return nil
}

// pay places an order whose money is taken at once, and waits for that.
func (c *client) pay(ctx context.Context, account int, amount int64, with load.NewOrder,
	meanwhile func(*order) error) (o *order, paid bool, err error) {
	since := now()
	o, err = c.place(ctx, account, amount, with)
	if err != nil {
		return nil, false, err
	}
	if err := meanwhile(o); err != nil {
		return nil, false, err
	}
	seen, err := c.until(ctx, o, "paid", "failed")
	if err != nil {
		return nil, false, err
	}
	m := move{what: "order", account: account, needs: amount, by: only(account, -amount, 0)}
	switch paid = seen.Status == "paid"; {
	case paid || seen.Reason == "insufficient_funds":
		c.note(since, m, !paid)
	case seen.Reason == "out_of_stock" && with.AwaitInventory:
		c.count("order, out of stock")
	default:
		return nil, false, fmt.Errorf("order %s has failed: %s", o.id, seen.Reason)
	}
	return o, paid, nil
}

// waiting places an order that waits for money, and then brings that.
func (c *client) waiting(ctx context.Context) error {
	account, amount := c.random.IntN(accountsOfEach), c.amount()
	o, paid, err := c.pay(ctx, account, amount, load.NewOrder{OnInsufficient: contract.OnInsufficientWait},
		func(*order) error { return c.put(ctx, account, amount) })
	if err == nil && !paid {
		err = fmt.Errorf("order %s has failed, which was to wait for money", o.id)
	}
	return err
}

// goods places an order that waits for goods, and says that they are there, or not.
func (c *client) goods(ctx context.Context) error {
	status := contract.InventoryCompleted
	if c.random.IntN(3) == 0 {
		status = contract.InventoryFailed
	}
	account := c.random.IntN(accountsOfEach)
	_, _, err := c.pay(ctx, account, c.amount(), load.NewOrder{AwaitInventory: true}, func(o *order) error {
		value, err := json.Marshal(contract.Inventory{IdempotentKey: uuid.New(), OrderID: o.id, Status: status})
		if err != nil {
			return err
		}
		ctx, end := context.WithTimeout(ctx, patience)
		defer end()
		m := kafka.Message{Topic: contract.TopicInventory, Key: []byte(c.ids[account].String()), Value: value}
		for {
			err := errors.Join(c.producer.Produce(ctx, []kafka.Message{m})...)
			if err == nil || kafka.Permanent(err) || !stage.Wait(ctx, retryPause) {
				return err
			}
		}
	})
	return err
}

// manual places an order whose money is held, and then takes a part, or rejects or cancels it.
func (c *client) manual(ctx context.Context) error {
	account, amount := c.random.IntN(accountsOfEach), c.amount()
	since := now()
	o, err := c.place(ctx, account, amount, load.NewOrder{Capture: contract.CaptureManual})
	if err != nil {
		return err
	}
	held, err := c.until(ctx, o, "authorized", "failed")
	if err != nil {
		return err
	}
	m := move{what: "order, held", account: account, needs: amount, by: only(account, -amount, amount)}
	if held.Status == "failed" {
		if held.Reason != "insufficient_funds" {
			return fmt.Errorf("order %s has failed: %s", o.id, held.Reason)
		}
		c.note(since, m, true)
		return nil
	}
	c.note(since, m, false)
	since = now()
	switch c.random.IntN(3) {
	case 0:
		return c.cancel(ctx, o, account, amount, amount)
	case 1:
		if err := c.step(ctx, o, reject, struct{}{}); err != nil {
			return err
		}
		c.note(since, move{what: "order, rejected", account: account, by: only(account, amount, -amount)}, false)
		_, err = c.until(ctx, o, "failed")
	default:
		part := 1 + c.random.Int64N(amount)
		if err := c.step(ctx, o, confirm, map[string]string{"amount": decimal(part)}); err != nil {
			return err
		}
		c.note(since, move{what: "order, confirmed", account: account, by: only(account, amount-part, -amount)}, false)
		_, err = c.until(ctx, o, "paid")
	}
	return err
}

// after are the statuses of a payment after a step.
var after = map[asked]string{
	confirm: contract.PaymentSucceeded, reject: contract.PaymentFailed, refund: contract.PaymentRefunded,
}

// step takes the payment of an order further.
func (c *client) step(ctx context.Context, o *order, what asked, body any) error {
	since, key := now(), uuid.NewString()
	ctx, end := context.WithTimeout(ctx, patience)
	defer end()
	for {
		var p contract.Payment
		if _, err := c.try(ctx, "POST", "/api/v1/payments/"+o.id.String()+"/"+string(what), key, body, &p); err != nil {
			return fmt.Errorf("%s order %s: %w", what, o.id, err)
		}
		if p.Status == after[what] {
			o.history.add(c.number, since, what, told(""))
			return nil
		}
		if !stage.Wait(ctx, retryPause) {
			return fmt.Errorf("%s order %s, whose payment is %s: %w", what, o.id, p.Status, context.Cause(ctx))
		}
	}
}

// cancel cancels an order and waits until its money is back: all of it, of which so much was held.
func (c *client) cancel(ctx context.Context, o *order, account int, amount, held int64) error {
	since := now()
	var begun load.Order
	if err := c.post(ctx, load.OrdersPath+"/"+o.id.String()+"/cancel", struct{}{}, &begun); err != nil {
		return fmt.Errorf("cancel order %s: %w", o.id, err)
	}
	o.history.add(c.number, since, cancel, told(begun.Status))
	if _, err := c.until(ctx, o, "cancelled"); err != nil {
		return err
	}
	c.note(since, move{what: "order, cancelled", account: account, by: only(account, amount, -held)}, false)
	return nil
}
