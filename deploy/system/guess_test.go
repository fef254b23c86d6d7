package system

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/testkit/wait"
)

// things are what all parties have made. Each of them can guess all of it.
type things struct {
	mu  sync.Mutex
	all map[uuid.UUID]owned
}

type owned struct {
	kind kind
	by   *party
}

// add keeps a thing, which is another party's already if it returns false.
func (g *things) add(kind kind, id uuid.UUID, by *party) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	was, known := g.all[id]
	g.all[id] = owned{kind, by}
	return !known || was.by == by
}

// of returns the things of a kind that belong to parties of which a condition is true.
func (g *things) of(kind kind, by func(*party) bool) (ids []uuid.UUID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for id, thing := range g.all {
		if thing.kind == kind && by(thing.by) {
			ids = append(ids, id)
		}
	}
	return ids
}

// Ways to guess that are no method of HTTP.
const (
	byRPC     = "gRPC"
	byCommand = "command"
)

// guess is what a party tries with another's ID. OWN is an account of its own.
type guess struct {
	kind              kind
	way, target, body string
	tenants           bool // parties of the same tenant may do it
}

const (
	oneRouble = `"amount":"1","currency":"RUB"}`
	outOf     = `{"from_account_id":"ID","to_account_id":"OWN",` + oneRouble
	into      = `{"from_account_id":"OWN","to_account_id":"ID",` + oneRouble
)

var allGuesses = []guess{
	{anAccount, "GET", "/api/v1/accounts/ID", "", false}, {anAccount, "GET", "/api/v1/accounts/ID/balance", "", false},
	{anAccount, "GET", "/api/v1/accounts/ID/entries", "", false},
	{anAccount, "GET", "/api/v1/accounts/ID/operations", "", false},
	{anAccount, "POST", "/api/v1/accounts/ID/deposits?wait=30s", "{" + oneRouble, false},
	{anAccount, "POST", "/api/v1/accounts/ID/withdrawals?wait=30s", "{" + oneRouble, false},
	{anAccount, "POST", "/api/v1/accounts/ID/holds?wait=30s", "{" + oneRouble, false},
	{anAccount, "POST", "/api/v1/transfers?wait=30s", outOf, false},
	{anAccount, "POST", "/api/v1/transfers?wait=30s", into, true},
	{anAccount, "POST", "/api/v1/orders?wait=30s", `{"reference":"RUN","account_id":"ID",` + oneRouble, false},
	{aHold, "GET", "/api/v1/holds/ID", "", false},
	{aHold, "POST", "/api/v1/holds/ID/capture?wait=30s", `{"amount":"1"}`, false},
	{aHold, "POST", "/api/v1/holds/ID/release?wait=30s", "{}", false},
	{aHold, "GET", "/api/v1/operations/ID", "", false},
	{aHold, "POST", "/api/v1/operations/ID/cancel?wait=30s", "{}", false},
	{aWithdrawal, "GET", "/api/v1/operations/ID", "", false},
	{aWithdrawal, "POST", "/api/v1/operations/ID/cancel?wait=30s", "{}", false},
	{aTransfer, "GET", "/api/v1/operations/ID", "", false},
	{anOrder, "GET", "/api/v1/orders/ID", "", false}, {anOrder, "GET", "/api/v1/orders/ID/timeline", "", false},
	{anOrder, "GET", "/api/v1/orders/ID/stream", "", false}, {anOrder, "POST", "/api/v1/orders/ID/cancel", "{}", false},
	{anOrder, "GET", "/api/v1/payments/ID", "", false}, {anOrder, "GET", "/api/v1/operations/ID", "", false},
	{anOrder, "GET", "/api/v1/holds/ID", "", false},
	{anOrder, "POST", "/api/v1/payments/ID/confirm?wait=30s", "{}", false},
	{anOrder, "POST", "/api/v1/payments/ID/reject?wait=30s", "{}", false},
	{anOrder, "POST", "/api/v1/payments/ID/refund?wait=30s", "{}", false},

	{anAccount, byRPC, "GetBalance", `{"accountId":"ID"}`, false},
	{anOrder, byRPC, "GetPayment", `{"orderId":"ID"}`, false},
	{anOrder, byRPC, "ConfirmPayment", `{"orderId":"ID"}`, false},
	{anOrder, byRPC, "RejectPayment", `{"orderId":"ID"}`, false},
	{anOrder, byRPC, "RefundPayment", `{"orderId":"ID"}`, false},

	{anAccount, byCommand, "balance", `{"account_id":"ID"}`, false},
	{anAccount, byCommand, "deposit", `{"account_id":"ID",` + oneRouble, false},
	{anAccount, byCommand, "withdraw", `{"account_id":"ID",` + oneRouble, false},
	{anAccount, byCommand, "hold", `{"account_id":"ID",` + oneRouble, false},
	{anAccount, byCommand, "transfer", outOf, false}, {anAccount, byCommand, "transfer", into, true},
	{aHold, byCommand, "capture", `{"hold_id":"ID"}`, false}, {aHold, byCommand, "release", `{"hold_id":"ID"}`, false},
	{aHold, byCommand, "cancel", `{"operation_id":"ID"}`, false},
	{aWithdrawal, byCommand, "cancel", `{"operation_id":"ID"}`, false},
}

// notThere are the codes for what is not there.
var notThere = []string{"account_not_found", "hold_not_found", "operation_not_found", "order_not_found",
	"payment_not_found"}

// guesses tries some things with what is another's. It is as if that were not there, and nothing has happened: what the
// other one then has is held against the other one's world.
func (g *group) guesses(s step) error {
	for _, guess := range []func() error{g.guessID, g.guessID, g.guessID, g.guessRequest,
		func() error { return g.guessGoods(s) }} {
		if err := guess(); err != nil {
			return err
		}
	}
	if s.Which%6 == 0 {
		return g.guessTopic()
	}
	return nil
}

// guessID tries one of allGuesses.
func (g *group) guessID() error {
	guess := allGuesses[rand.IntN(len(allGuesses))]
	id, ok := g.foreign(guess.kind, guess.tenants)
	if !ok {
		return nil
	}
	there, err := g.try(guess, id)
	if err != nil {
		return err
	}
	absent, err := g.try(guess, uuid.New())
	if err != nil {
		return err
	}
	if there != absent || !slices.Contains(notThere, there) {
		return fmt.Errorf("%+v of another: %q, of nobody: %q", guess, there, absent)
	}
	g.count("guess by " + guess.way)
	return nil
}

// foreign returns a thing that is not in reach, where only is set one of another tenant.
func (g *group) foreign(kind kind, only bool) (uuid.UUID, bool) {
	ids := g.things.of(kind, func(p *party) bool {
		return p.reference == g.reference && !g.reaches(p) && (!only || p.reach.Tenant != g.reach.Tenant)
	})
	if len(ids) == 0 {
		return uuid.Nil, false
	}
	return ids[rand.IntN(len(ids))], true
}

// try returns the code of the refusal. Its key is nobody else's: with one that another party has used for this account,
// a later guess of that party's request would be another request under the same key.
func (g *group) try(guess guess, id uuid.UUID) (code string, err error) {
	fill := strings.NewReplacer("ID", id.String(), "OWN", g.accounts[0].String(), "RUN", g.reference)
	target, text := fill.Replace(guess.target), fill.Replace(guess.body)
	var body map[string]any
	if text != "" {
		if err := json.Unmarshal([]byte(text), &body); err != nil {
			return "", err
		}
	}
	switch guess.way {
	case byRPC:
		return g.call(target, body, &json.RawMessage{})
	case byCommand:
		body["operation"] = target
		reply, err := g.command(g.patience, body, uuid.NewString(), guesses(g.reach.Tenant), guesses(g.reach.Tenant))
		return reply.Reason, err
	}
	return g.refusal(guess.way, target, uuid.NewString(), body)
}

// refusal sends a request until it is decided, and returns the code of its refusal, or why its order has failed.
func (g *group) refusal(method, path, key string, body any) (code string, err error) {
	undecided := wait.Within(g.patience, 10*time.Millisecond, func() error {
		var made load.Order
		if method == "GET" {
			err = g.client.Call(method, path, "", nil, &made)
		} else {
			err = g.client.Call(method, path, key, body, &made)
		}
		var refused *load.StatusError
		switch {
		case errors.As(err, &refused) && refused.Status < 500:
			code, err = refused.Code(), nil
		case err != nil: // it is not answered now
			return err
		case made.Status == "failed":
			code = made.Reason
			g.things.add(anOrder, made.ID, g.party)
		case made.Status == "pending" || made.Status == "created":
			return fmt.Errorf("%s %s is %+v", method, path, made)
		default:
			code = "what is there: " + made.Status
		}
		return nil
	})
	return code, undecided
}

// guessRequest sends another's request once more: the same IDs, the same key, but with the party's own token.
func (g *group) guessRequest() error {
	var others []*party
	for _, p := range g.parties {
		if !g.reaches(p) {
			others = append(others, p)
		}
	}
	other := others[rand.IntN(len(others))]
	other.mu.Lock()
	if len(other.sent) == 0 {
		other.mu.Unlock()
		return nil
	}
	r := other.sent[rand.IntN(len(other.sent))]
	other.mu.Unlock()
	if fields, ok := r.body.(map[string]any); ok && (fields["await_inventory"] == true || fields["expires_in"] != nil) {
		return nil // its order waits, or fails because it is late
	}
	var code string
	var err error
	switch {
	case r.command != nil:
		var reply contract.Reply
		reply, err = g.command(g.patience, r.command, r.key, guesses(g.reach.Tenant), guesses(g.reach.Tenant))
		code = reply.Reason
	case r.procedure != "":
		code, err = g.call(r.procedure, r.rpc(), &json.RawMessage{})
	default:
		code, err = g.refusal("POST", r.path, r.key, r.body)
	}
	if err == nil && !slices.Contains(notThere, code) {
		err = fmt.Errorf("the request %+v of %+v is answered with %q to %+v", r, other.reach, code, g.reach)
	}
	g.count("guess of a request")
	return err
}

// guessGoods says what became of the goods of another tenant's order.
func (g *group) guessGoods(s step) error {
	order, ok := g.foreign(anOrder, true)
	if !ok {
		return nil
	}
	g.count("guess about goods")
	return g.tell(order, goods(order, s.Word))
}

// guessTopic asks for a reply on another tenant's topic. It comes where it comes when nothing is asked for.
func (g *group) guessTopic() error {
	own := contract.TopicReplies
	if g.reach.Tenant != identity.DefaultTenant {
		own = replies(g.reach.Tenant)
	}
	other := tenants[(slices.Index(tenants, g.reach.Tenant)+1)%len(tenants)]
	_, err := g.command(g.patience, map[string]any{"operation": "balance", "account_id": g.accounts[0]}, uuid.NewString(),
		own, replies(other))
	g.count("guess of a topic")
	return err
}
