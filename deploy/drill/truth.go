package drill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/deploy/stack"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// state is what an order has come to.
type state struct {
	ID       uuid.UUID `db:"id"`
	Account  uuid.UUID `db:"account_id"`
	Amount   int64     `db:"amount"`
	Status   string    `db:"status"`
	Captured int64     `db:"captured"`
	Refunded int64     `db:"refunded"`
}

// purse is what an account has.
type purse struct {
	Account uuid.UUID `db:"account_id"`
	Actual  int64     `db:"actual"`
	Frozen  int64     `db:"frozen"`
}

// truth is what the databases have of what clients did.
type truth struct {
	orders map[uuid.UUID]state
	keys   map[string]bool // of the operations that succeeded
	purses map[uuid.UUID]purse
}

// look reads what the databases have.
func (s *Site) look(ctx context.Context, t *traffic) (truth, error) {
	found := truth{map[uuid.UUID]state{}, map[string]bool{}, map[uuid.UUID]purse{}}
	orders, err := s.orders(ctx, t)
	if err != nil {
		return found, err
	}
	found.orders = orders
	return found, s.read(stack.Payments, func(db *sqlx.DB) error {
		var keys []string
		var purses []purse
		accounts := pg.UUIDs(t.all())
		if err := errors.Join(
			db.SelectContext(ctx, &keys, `
				SELECT key FROM operations WHERE account_id = ANY($1::uuid[]) AND key <> '' AND status = 'success'`, accounts),
			db.SelectContext(ctx, &purses, `
				SELECT account_id, actual, frozen FROM balances WHERE account_id = ANY($1::uuid[])`, accounts),
		); err != nil {
			return err
		}
		for _, key := range keys {
			found.keys[key] = true
		}
		for _, p := range purses {
			found.purses[p.Account] = p
		}
		return nil
	})
}

// orders reads the clients' orders.
func (s *Site) orders(ctx context.Context, t *traffic) (map[uuid.UUID]state, error) {
	orders := map[uuid.UUID]state{}
	return orders, s.read(stack.Orders, func(db *sqlx.DB) error {
		var list []state
		if err := db.SelectContext(ctx, &list, `
			SELECT id, account_id, amount, status, captured, refunded FROM orders WHERE account_id = ANY($1::uuid[])`,
			pg.UUIDs(t.all())); err != nil {
			return err
		}
		for _, o := range list {
			orders[o.ID] = o
		}
		return nil
	})
}

func (s *Site) read(service string, do func(db *sqlx.DB) error) error {
	cfg, err := s.Database(service)
	if err != nil {
		return err
	}
	db, err := pg.OpenOwner(cfg)
	if err != nil {
		return err
	}
	defer db.Close()
	return do(db)
}

// all are the accounts of which clients know.
func (t *traffic) all() []uuid.UUID {
	all := slices.Clone(t.accounts)
	for _, a := range t.acts {
		if a.What == account && a.Account != uuid.Nil {
			all = append(all, a.Account)
		}
	}
	return all
}

// has reports whether the databases have what an act did.
func (t truth) has(a Act) bool {
	o, ok := t.orders[a.Order]
	switch a.What {
	case order:
		return ok
	case cancel: // a payment that fails first ends it, too
		return ok && (o.Status == "cancelled" || o.Status == "failed")
	}
	return t.keys[a.Key]
}

// overPayments reports whether the act is one of payments' own, which no topic has.
func (a Act) overPayments() bool { return a.What != order && a.What != cancel }

// Gone are the acts that were answered, of which the databases have nothing.
func (t truth) gone(acts []Act) (gone []Act) {
	for _, a := range acts {
		if !a.Answered.IsZero() && !t.has(a) {
			gone = append(gone, a)
		}
	}
	return gone
}

// sums expects each account to have what is left of what its clients did, as far as it is there, and each order to be
// what they made of it.
func (t truth) sums(traffic *traffic) error {
	var wrong wrongs
	want := map[uuid.UUID]purse{}
	pay := func(id uuid.UUID, actual, frozen int64) {
		p := want[id]
		want[id] = purse{id, p.Actual + actual, p.Frozen + frozen}
	}
	for _, id := range traffic.accounts {
		pay(id, funded, 0)
	}
	type wish struct {
		Act
		confirmed, refunded int64
		steps               int // that ended its hold
	}
	wishes := map[uuid.UUID]*wish{}
	for _, a := range traffic.acts {
		there := t.has(a)
		w := wishes[a.Order]
		if a.What == order {
			wishes[a.Order] = &wish{Act: a}
		}
		if !there {
			continue
		}
		switch a.What {
		case deposit:
			pay(a.Account, a.Amount, 0)
		case withdrawal:
			pay(a.Account, -a.Amount, 0)
		case transfer:
			pay(a.Account, -a.Amount, 0)
			pay(a.To, a.Amount, 0)
		case confirm:
			w.confirmed, w.steps = a.Amount, w.steps+1
		case reject:
			w.steps++
		case refund:
			w.refunded += a.Amount
		}
	}
	for id, o := range t.orders {
		w := wishes[id]
		if w == nil {
			wrong.add("nobody has placed order %s", id)
			continue
		}
		captured := o.Amount
		if w.manual {
			captured = w.confirmed
		}
		ok := o.Account == w.Account && o.Amount == w.Amount
		switch o.Status {
		case "paid":
			ok = ok && o.Captured == captured && o.Refunded == w.refunded && captured > 0
		case "authorized":
			ok = ok && w.manual && w.steps == 0 && o.Captured == 0
			pay(o.Account, -o.Amount, o.Amount)
		case "cancelled":
			ok = ok && o.Captured == o.Refunded
		case "failed", "pending":
			ok = ok && o.Captured == 0
		default:
			ok = false
		}
		if !ok {
			wrong.add("order %+v is not what became of %+v", o, *w)
		}
		pay(o.Account, o.Refunded-o.Captured, 0)
	}
	for id, p := range want {
		if got := t.purses[id]; got.Actual != p.Actual || got.Frozen != p.Frozen {
			wrong.add("account %s has %d and %d, not %d and %d", id, got.Actual, got.Frozen, p.Actual, p.Frozen)
		}
	}
	return wrong.err()
}

// at expects what was answered before a moment to be there, and what was begun after it only where a topic has it.
func (t truth) at(moment time.Time, restored string, acts []Act) error {
	var wrong wrongs
	for _, a := range acts {
		kept := a.overPayments() == (restored == stack.Orders) // in the database that was not restored
		there := t.has(a)
		switch {
		case !a.Answered.IsZero() && !there && (kept || a.Answered.Before(moment)):
			wrong.add("it was answered before %s, and is gone: %+v", moment, a)
		case there && restored == stack.Payments && a.overPayments() && a.Begun.After(moment):
			wrong.add("it was begun after %s, and is there: %+v", moment, a)
		}
	}
	return wrong.err()
}

// named expects everything that is gone to be listed, and nothing of what is there. said is what orders were.
func (t truth) named(restored string, acts []Act, said map[uuid.UUID]state, gone, undone string) (n int, err error) {
	var wrong wrongs
	for _, a := range acts {
		line := a.Key
		switch {
		case a.overPayments() != (restored == stack.Payments): // another database has it
			continue
		case a.What == order:
			line = "order " + a.Order.String() + " account"
		case a.What == cancel:
			line = "cancellation of order " + a.Order.String()
		}
		there, listed := t.has(a), strings.Contains(gone, line)
		if there && listed && a.What != cancel || !there && !listed && !a.Answered.IsZero() {
			wrong.add("%+v is there: %t, is listed as gone: %t", a, there, listed)
		}
	}
	for id, was := range said {
		now, ok := t.orders[id]
		switch {
		case !ok, was.Status == "pending", was.Status == "cancelling":
		case was.Status == "authorized" && now.Status != "pending": // it has gone on, as its client asked or money allowed
		case now.Status == was.Status && now.Captured >= was.Captured && now.Refunded >= was.Refunded:
		default:
			n++
			if !strings.Contains(undone, id.String()) {
				wrong.add("order %s was %+v, is %+v, and nothing says so", id, was, now)
			}
		}
	}
	return n, wrong.err()
}

// wrongs are what is wrong, the first of it in words.
type wrongs struct {
	n    int
	errs []error
}

func (w *wrongs) add(format string, args ...any) {
	const inWords = 10
	if w.n++; w.n <= inWords {
		w.errs = append(w.errs, fmt.Errorf(format, args...))
	}
}

func (w *wrongs) err() error {
	if w.n == 0 {
		return nil
	}
	return fmt.Errorf("%d are wrong: %w", w.n, errors.Join(w.errs...))
}
