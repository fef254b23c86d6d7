package system

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/platform/contract"
)

// briefly is the shortest deadline.
const briefly = time.Second

// acts are what a step comes to in the world as it is; none where there is nothing to do it to.
func (g *group) acts(s step) []act {
	purse := s.Account*len(currencies) + s.Currency
	switch s.Kind {
	case "":
		return nil
	case "deposit":
		return []act{g.deposit(purse, s)}
	case "withdraw", "transfer", "hold", "order":
		return []act{g.begin(g.draw(s, purse), s)}
	case "batch":
		if g.world.purses[purse].missing || g.armed != none {
			return nil
		}
		return []act{g.batch(purse, s)}
	case "again":
		return g.again(s)
	case "give up":
		return g.giveUp(s)
	}
	i, ok := g.target(s)
	if !ok {
		return nil
	}
	acts := []act{g.on(i, s.Kind, s)}
	if s.Race == "deposit" {
		acts = append(acts, g.deposit(g.world.things[i].purse, s))
	} else if s.Race != "" && g.world.things[i].kind == anOrder {
		acts = append(acts, g.on(i, s.Race, s))
	}
	return acts
}

// target is the thing for a step: mostly one where it does something.
func (g *group) target(s step) (int, bool) {
	var fit, any []int
	for i, t := range g.world.things {
		right, fits := t.kind == anOrder, false
		switch s.Kind {
		case "word":
			fits = t.waitsFor(forInventory)
		case "confirm", "reject":
			fits = t.status == contract.PaymentAuthorized
		case "refund":
			fits = t.captured > t.refunded
		case "cancel", "replay":
			fits = right && t.status != contract.PaymentFailed && t.status != contract.PaymentCancelled
		case "end":
			right = true
			fits = t.kind != anOrder && t.waitsFor(forFunds)
		case "capture", "release":
			right = t.hold != ""
			fits = t.hold == "open"
		}
		if right && !g.world.purses[t.purse].missing {
			any = append(any, i)
			if fits {
				fit = append(fit, i)
			}
		}
	}
	if len(fit) == 0 || s.Which%5 == 0 {
		fit = any
	}
	if len(fit) == 0 {
		return 0, false
	}
	return fit[s.Which%len(fit)], true
}

// draw is the thing that a step asks for.
func (g *group) draw(s step, purse int) thing {
	const waitsNever = accountsOfEach - 1
	t := thing{purse: purse, amount: s.Amount}
	queued := len(g.world.purses[purse].queue) > 0
	switch s.Kind {
	case "withdraw":
		t.kind = aWithdrawal
		t.wait = s.Wait && s.Account != waitsNever
		t.brief = s.Brief && t.wait
	case "transfer":
		if s.Other == s.Account {
			s.Other = (s.Account + 1) % accountsOfEach
		}
		if queued {
			s.Other = waitsNever
		}
		t.kind, t.payee = aTransfer, s.Other*len(currencies)+s.Currency
	case "hold":
		t.kind = aHold
		t.brief = s.Brief && !queued // while it waits behind others, its time does not end it
	case "order":
		t.kind, t.manual, t.goods, t.brief = anOrder, s.Manual, s.Goods, s.Brief
		t.wait = s.Wait && s.Account != waitsNever
		if s.Which%20 == 0 {
			t.purse, t.goods = len(g.world.purses)-1, false
		}
	}
	t.brief = t.brief && g.armed == none
	return t
}

// begin asks for a thing.
func (g *group) begin(t thing, s step) act {
	i, account, key := len(g.world.things), g.accounts[t.purse/len(currencies)], g.key()
	r, operation := request{key: key}, ""
	fields := amountIn(t.amount, currencies[t.purse%len(currencies)])
	// What waits for money is answered over the broker when it has ended.
	broker := s.Protocol == 0 && t.kind != anOrder && !t.wait && !t.brief && len(g.world.purses[t.purse].queue) == 0
	switch t.kind {
	case aWithdrawal:
		operation = "withdraw"
		r.path = "/api/v1/accounts/" + account.String() + "/withdrawals"
	case aHold:
		operation = "hold"
		r.path = "/api/v1/accounts/" + account.String() + "/holds"
	case aTransfer:
		operation = "transfer"
		r.path = "/api/v1/transfers"
		fields["from_account_id"], fields["to_account_id"] = account, g.accounts[t.payee/len(currencies)]
	case anOrder:
		r.path = load.OrdersPath
		fields["account_id"], fields["await_inventory"], fields["reference"] = account, t.goods, g.reference
		if t.manual {
			fields["capture"] = contract.CaptureManual
		}
	}
	if t.wait {
		fields["on_insufficient"] = contract.OnInsufficientWait
	}
	if t.brief {
		fields["expires_in"] = briefly.String()
		g.armed = i
	}
	if r.body = fields; broker {
		r.command = maps.Clone(fields)
		if r.command["operation"] = operation; t.kind != aTransfer {
			r.command["account_id"] = account
		}
	}
	r.allowed = func(w *world) []string {
		if t := w.things[i]; t.kind != anOrder && t.status == "error" {
			return []string{t.reason}
		}
		return []string{done}
	}
	early := t.goods && s.Early
	return act{
		apply: func(w *world) func() []string {
			w.begin(t)
			if early {
				w.word(i, s.Word)
			}
			// What takes long is answered before it has ended.
			return func() []string { return append(r.allowed(w), done) }
		},
		send: func() ([]string, error) {
			id := contract.DerivedID(g.reach.Namespace()+load.OrdersPath, account, key)
			if early {
				if err := g.tell(account, goods(id, s.Word)); err != nil {
					return nil, err
				}
			}
			earliest := time.Now().Add(briefly)
			codes, answered, expires, err := g.copies(r, s.Copies)
			if err == nil && t.kind == anOrder && answered != id {
				err = fmt.Errorf("order %s, not %s", answered, id)
			}
			g.ids = append(g.ids, answered)
			g.things.add(t.kind, answered, g.party)
			if t.brief {
				if g.deadline = earliest; !expires.IsZero() {
					g.deadline = expires
				}
			}
			return codes, err
		},
	}
}

func amountIn(minor int64, currency string) map[string]any {
	return map[string]any{"amount": cents(minor), "currency": currency}
}

func (g *group) deposit(purse int, s step) act {
	account, body := g.accounts[purse/len(currencies)], amountIn(s.Amount, currencies[purse%len(currencies)])
	r := request{path: "/api/v1/accounts/" + account.String() + "/deposits", key: g.key(), body: body}
	if s.Protocol == 0 {
		r.command = maps.Clone(body)
		r.command["operation"], r.command["account_id"] = "deposit", account
	}
	return act{
		apply: func(w *world) func() []string { w.credit(purse, s.Amount); return always(done) },
		send:  func() ([]string, error) { return g.repeatable(r, s.Copies) },
	}
}

// repeatable sends copies of a request.
func (g *group) repeatable(r request, copies int) ([]string, error) {
	codes, _, _, err := g.copies(r, copies)
	return codes, err
}

// on does something to a thing.
func (g *group) on(i int, kind string, s step) act {
	t, id := g.world.things[i], g.ids[i]
	var part int64
	text := ""
	if s.Part { // sometimes of too much
		part = 1 + s.Amount%(t.amount+t.amount/4+1)
		text = cents(part)
	}
	field := func(name, value string) map[string]string {
		if value == "" {
			return map[string]string{}
		}
		return map[string]string{name: value}
	}
	r := request{path: "/api/v1/payments/" + id.String() + "/" + kind + "?wait=30s", key: g.key(), order: id,
		body: field("amount", text)}
	over := func(operation, name string) { // the broker
		if s.Protocol == 0 {
			r.command = map[string]any{"operation": operation, name: id}
			for name, value := range r.body.(map[string]string) {
				r.command[name] = value
			}
		}
	}
	var apply func(w *world) string
	switch kind {
	case "word":
		message := goods(id, s.Word)
		return act{
			apply: func(w *world) func() []string { w.word(i, s.Word); return always() },
			send: func() ([]string, error) {
				if s.Transaction {
					return nil, g.transactor.produce(g.Context(), kgo.TryCommit,
						kafkaRecord(contract.TopicInventory, id.String(), "", message, g.bearer()...))
				}
				return nil, g.tell(g.accounts[0], slices.Repeat([]contract.Inventory{message}, s.Copies)...)
			},
		}
	case "replay":
		return act{
			apply: func(*world) func() []string { return always() },
			send:  func() ([]string, error) { return nil, g.events.replay(g.saga, id) },
		}
	case "cancel":
		return g.cancelling(i, s)
	case "confirm":
		r.procedure = "ConfirmPayment"
		apply = func(w *world) string { return w.confirm(i, part) }
	case "reject":
		r.procedure = "RejectPayment"
		r.body = field("reason", "no")
		apply = func(w *world) string { return w.reject(i) }
	case "refund":
		r.procedure = "RefundPayment"
		apply = func(w *world) string { return w.refund(i, part) }
	case "capture":
		r.path = "/api/v1/holds/" + id.String() + "/capture"
		over("capture", "hold_id")
		apply = func(w *world) string { return w.capture(i, part) }
	case "end":
		r.path, r.body = "/api/v1/operations/"+id.String()+"/cancel", field("reason", changedMind)
		over("cancel", "operation_id")
		apply = func(w *world) string { return w.end(i) }
	case "release":
		r.path, r.body = "/api/v1/holds/"+id.String()+"/release", field("", "")
		over("release", "hold_id")
		apply = func(w *world) string { return w.release(i) }
	default:
		panic(kind)
	}
	if s.Protocol != 0 {
		r.procedure = ""
	}
	return act{
		apply: func(w *world) func() []string { return always(apply(w)) },
		send:  func() ([]string, error) { return g.repeatable(r, s.Copies) },
	}
}

// cancelling cancels an order. That is decided by what the order knows of its payment, so that it may be accepted
// although the payment has just failed.
func (g *group) cancelling(i int, s step) act {
	const refused = "order_failed"
	known := g.world.things[i].status == contract.PaymentFailed
	r := request{path: load.OrdersPath + "/" + g.ids[i].String() + "/cancel", key: g.key(),
		body: map[string]string{"reason": changedMind}}
	r.allowed = func(w *world) []string {
		if w.things[i].status == contract.PaymentFailed {
			return []string{done, refused}
		}
		return []string{done}
	}
	return act{
		apply: func(w *world) func() []string {
			codes := r.allowed(w)
			if w.cancel(i); known {
				codes = []string{refused}
			}
			return always(codes...)
		},
		send: func() ([]string, error) { return g.repeatable(r, s.Copies) },
	}
}

// again sends an earlier request once more, which changes nothing. It may be answered with what there is when it comes,
// or, as it waits for the end, with what comes meanwhile.
func (g *group) again(s step) []act {
	if len(g.sent) == 0 {
		return nil
	}
	r := g.sent[s.Which%len(g.sent)]
	return []act{{
		apply: func(w *world) func() []string {
			now := r.allowed(w)
			return func() []string { return slices.Concat(now, r.allowed(w)) }
		},
		send: func() ([]string, error) { return g.repeatable(r, s.Copies) },
	}}
}

// giveUp writes what would do a lot, in a transaction that is given up: nothing happens.
func (g *group) giveUp(s step) []act {
	order := uuid.Nil
	for i, t := range g.world.things {
		if t.kind == anOrder && !g.world.purses[t.purse].missing && (order == uuid.Nil || i%3 == s.Which%3) {
			order = g.ids[i]
		}
	}
	return []act{{
		apply: func(*world) func() []string { return always() },
		send: func() ([]string, error) {
			return nil, g.transactor.produce(g.Context(), kgo.TryAbort,
				givenUp(g.party, g.accounts[s.Account], order, s.Amount, s.Word)...)
		},
	}}
}
