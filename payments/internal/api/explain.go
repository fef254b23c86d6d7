package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/explain"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/outbox"
)

// explainPayment says what payments knows of an order.
//
//	@ID				explainPayment
//	@Summary		Explain the payment of an order: its operations and entries, what it waits for, and what to do next
//	@Description	It is a part of what GET /api/v1/orders/{id}/explain of the gateway answers. Entries, balances and what it waits
//	@Description	behind are there for tokens that also have accounts:read.
//	@Tags			payments
//	@Param			order_id	path		string	true	"ID of the order"	format(uuid)
//	@Success		200			{object}	explain.Explanation
//	@Failure		404			{object}	httpserver.Problem	"payment_not_found"
//	@Router			/api/v1/payments/{order_id}/explain [get]
func (a *API) explainPayment(w http.ResponseWriter, r *http.Request) error {
	return get(w, r, "order_id", func(ctx context.Context, by identity.Reach, id uuid.UUID) (explain.Explanation, error) {
		payment, err := a.billing.Payment(ctx, by, id, 0)
		if err != nil {
			return explain.Explanation{}, err
		}
		c := &collector{API: a, Explanation: &explain.Explanation{}, about: payment.AccountID}
		c.Payment = &payment
		if err := c.payment(ctx, by, id); err != nil {
			return explain.Explanation{}, err
		}
		return explain.OfOrder(id, explain.Part{}, explain.Part{Explanation: c.Explanation}, time.Now()), nil
	})
}

// explainOperation says where an operation is.
//
//	@ID				explainOperation
//	@Summary		Explain an operation: where it is, why, and what to do next
//	@Description	Plain sentences and a timeline, with the entries that it has made of the accounts in reach, and their balances
//	@Description	before and after. What it waits for is there for those who may read the account that it takes from.
//	@Tags			operations
//	@Param			id	path		string	true	"ID of the operation"	format(uuid)
//	@Success		200	{object}	explain.Explanation
//	@Failure		404	{object}	httpserver.Problem	"operation_not_found"
//	@Router			/api/v1/operations/{id}/explain [get]
func (a *API) explainOperation(w http.ResponseWriter, r *http.Request) error {
	return get(w, r, "id", func(ctx context.Context, by identity.Reach, id uuid.UUID) (explain.Explanation, error) {
		op, err := a.billing.Operation(ctx, by, id, 0)
		if err != nil {
			return explain.Explanation{}, err
		}
		e := explain.Explanation{ID: id}
		c := &collector{API: a, Explanation: &e, about: op.AccountID}
		c.Operation = &op
		if err := c.operation(ctx, by); err != nil {
			return e, err
		}
		explain.OfOperation(&e, time.Now())
		return e, nil
	})
}

// collector gathers what there is to say.
type collector struct {
	*API
	*explain.Explanation
	about    uuid.UUID          // the account
	accounts []postgres.Account // whose entries may be seen
	chains   [][]explain.Step
}

// see adds an account to those whose entries are shown, if it is in reach.
func (c *collector) see(ctx context.Context, by identity.Reach, id uuid.UUID) error {
	account, err := c.store.Account(ctx, by, id)
	if errors.Is(err, postgres.ErrNotFound) {
		return nil
	}
	c.accounts = append(c.accounts, account)
	return err
}

// sees tells whether the account that it is about may be read.
func (c *collector) sees() bool {
	return slices.ContainsFunc(c.accounts, func(a postgres.Account) bool { return a.ID == c.about })
}

func (c *collector) payment(ctx context.Context, by identity.Reach, order uuid.UUID) error {
	reads, err := identity.FromContext(ctx).Reach(identity.AccountsRead)
	if err == nil {
		err = c.see(ctx, reads, c.about)
	} else {
		c.Missing = append(c.Missing, explain.Gap{What: "entries and balances", Why: err.Error()})
		err = nil
	}
	if err != nil {
		return err
	}
	if c.Payment.Version > 0 {
		if err := c.operations(ctx, by, order); err != nil {
			return err
		}
	}
	if err := c.hold(ctx, by, order); err != nil {
		return err
	}
	if err := c.wait(ctx, order); err != nil {
		return err
	}
	cancel := contract.DerivedID(contract.OrderCancelledType, c.about, order.String())
	if err := c.queue(ctx, func(id, about uuid.UUID) bool { return id == order || about == order }, order,
		cancel); err != nil {
		return err
	}
	return c.events(ctx, order)
}

// operations adds those of a payment, and its present version.
func (c *collector) operations(ctx context.Context, by identity.Reach, order uuid.UUID) error {
	pays, err := c.store.Operation(ctx, by, order)
	if err == nil {
		err = c.settled(ctx, by, pays, "The event "+contract.OrderPlacedType+" came in, and its payment was accepted")
	}
	if err != nil && !errors.Is(err, postgres.ErrNotFound) { // a cancellation that overtakes its order leaves none
		return err
	}
	steps, more, err := c.store.Steps(ctx, by, order)
	if err != nil {
		return err
	}
	for _, op := range steps {
		if err := c.settled(ctx, by, &op, ""); err != nil {
			return err
		}
	}
	if more {
		c.Missing = append(c.Missing, explain.Gap{What: "operations",
			Why: fmt.Sprintf("the payment has more than %d: the later ones are left out", len(steps))})
	}
	p := c.Payment
	eventType := "payment." + p.Status
	s := stepAt(p.UpdatedAt, "event", "The payment became %s%s, version %d; the event %s was stored.", p.Status,
		inBrackets(p.Reason), p.Version, eventType)
	s.EventID = contract.EventID(eventType, order, p.Version)
	if last := len(c.chains) - 1; last >= 0 && settledAt(c.chains[last]) == p.UpdatedAt {
		c.chains[last] = append(c.chains[last], s) // after the entries, which are dated later
	} else {
		c.chains = append(c.chains, []explain.Step{s})
	}
	return nil
}

// settledAt is when the operation of a chain was settled.
func settledAt(chain []explain.Step) (at contract.Time) {
	for _, s := range chain {
		if s.What == "settled" {
			at = s.At
		}
	}
	return at
}

// settled adds what an operation has come to. came says how it came in; "" is as the operation says.
func (c *collector) settled(ctx context.Context, by identity.Reach, op *ledger.Operation, came string) error {
	shown, err := c.present.Operation(op, by)
	if err != nil {
		return err
	}
	cancelled, err := c.cancellation(ctx, by, op)
	if err != nil {
		return err
	}
	if len(cancelled) > 0 {
		shown.Note = "" // it is the cancellation's
	}
	steps := append([]explain.Step{received(shown, came, op.PublishedAt)}, cancelled...)
	if op.Status == ledger.Created {
		c.chains = append(c.chains, steps)
		return nil
	}
	outcome := "took effect"
	if op.Status == ledger.Error {
		outcome = fmt.Sprintf("failed (%s) and moved no money", op.Reason)
	}
	done := stepAt(shown.SettledAt, "settled", "The %s%s %s.", shown.Operation, amountOf(shown), outcome)
	done.OperationID = op.ID
	steps = append(steps, done)
	for _, account := range c.accounts {
		if op.Status != ledger.Success || op.Currency == "" || account.ID != op.AccountID && account.ID != op.ToAccountID {
			continue
		}
		entry, err := c.store.EntryOf(ctx, account, op)
		if errors.Is(err, postgres.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		line, err := c.entryOf(account, entry)
		if err != nil {
			return err
		}
		s := stepAt(contract.Time(entry.CreatedAt), "entry",
			"Entry %d of the account %s in %s: actual %s, was %s; frozen %s, was %s.", line.Number, line.AccountID,
			line.Currency, line.BalanceAfter, line.BalanceBefore, line.FrozenAfter, line.FrozenBefore)
		s.OperationID, s.Entry = op.ID, &line
		steps = append(steps, s)
	}
	c.chains = append(c.chains, steps)
	return nil
}

// cancellation is how the cancellation of an operation came in; nothing where there is none, or none in reach.
func (c *collector) cancellation(ctx context.Context, by identity.Reach, op *ledger.Operation) ([]explain.Step, error) {
	if op.CancelledBy == uuid.Nil {
		return nil, nil
	}
	cancel, err := c.store.Operation(ctx, by, op.CancelledBy)
	if errors.Is(err, postgres.ErrNotFound) { // whoever is paid does not reach the account of who pays
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	shown, err := c.present.Operation(cancel, by)
	s := received(shown, "Its cancellation was accepted", cancel.PublishedAt)
	s.OperationID = op.ID // clients see no record of the cancellation
	return []explain.Step{s}, err
}

func (c *collector) entryOf(account postgres.Account, e postgres.Entry) (explain.Entry, error) {
	currency, err := c.present.Currency(e.Currency)
	return explain.Entry{
		AccountID: account.ID, Number: e.Number, Currency: e.Currency,
		Amount: currency.Format(e.Amount), Frozen: currency.Format(e.Frozen),
		BalanceBefore: currency.Format(e.BalanceAfter - e.Amount), BalanceAfter: currency.Format(e.BalanceAfter),
		FrozenBefore: currency.Format(e.FrozenAfter - e.Frozen), FrozenAfter: currency.Format(e.FrozenAfter),
	}, err
}

// operation gathers what there is of an operation.
func (c *collector) operation(ctx context.Context, by identity.Reach) error {
	op := c.Operation
	for _, id := range []uuid.UUID{op.AccountID, op.ToAccountID} {
		if id == uuid.Nil {
			continue
		}
		if err := c.see(ctx, by, id); err != nil {
			return err
		}
	}
	stored, err := c.store.Operation(ctx, by, op.ID)
	switch {
	case err == nil:
		err = c.settled(ctx, by, stored, "")
	case errors.Is(err, postgres.ErrNotFound): // it is in the inbox
		c.chains = append(c.chains, []explain.Step{received(*op, "", time.Time{})})
		err = nil
	}
	if err != nil {
		return err
	}
	if op.Operation == string(ledger.KindHoldFunds) {
		if err := c.hold(ctx, by, op.ID); err != nil {
			return err
		}
	}
	if op.Status == string(ledger.Created) && c.sees() {
		if err := c.wait(ctx, op.ID); err != nil {
			return err
		}
		if err := c.queue(ctx, func(id, _ uuid.UUID) bool { return id == op.ID }, op.ID); err != nil {
			return err
		}
	}
	c.Timeline = explain.Merge(c.chains...)
	return nil
}

func (c *collector) hold(ctx context.Context, by identity.Reach, id uuid.UUID) error {
	hold, err := c.store.Hold(ctx, by, id)
	if errors.Is(err, postgres.ErrNotFound) {
		return nil
	}
	c.Hold = &explain.Hold{Status: string(hold.Status), ExpiresAt: contract.Time(hold.ExpiresAt)}
	return err
}

// wait adds what an operation waits for.
func (c *collector) wait(ctx context.Context, id uuid.UUID) error {
	place, err := c.store.PlaceOf(ctx, c.about, id)
	if errors.Is(err, postgres.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	c.Wait = &explain.Wait{For: string(place.What), Behind: place.Behind}
	if place.ExpiresAt.Valid {
		c.Wait.Until = contract.Time(place.ExpiresAt.Time.UTC())
	}
	if place.What == ledger.WaitingForFunds && c.sees() {
		currency, err := c.present.Currency(place.Currency)
		if err != nil {
			return err
		}
		c.Wait.First, c.Wait.Available = place.First.UUID, currency.Format(place.Actual)
	}
	return nil
}

// queue adds the messages that have not taken effect and are wanted, and the stop of the account where there are any.
func (c *collector) queue(ctx context.Context, wanted func(id, about uuid.UUID) bool, ids ...uuid.UUID) error {
	stop, messages, err := c.store.Standing(ctx, c.about, ids...)
	if err != nil {
		return err
	}
	for _, m := range messages {
		if m.Kind == postgres.Repetition || !wanted(m.ID, postgres.About(m)) {
			continue
		}
		q := explain.Queued{Kind: m.Kind, Since: contract.Time(m.ReceivedAt.UTC())}
		q.Head = stop != nil && stop.MessageID == m.ID
		c.Queued = append(c.Queued, q)
		if c.Operation == nil {
			c.chains = append(c.chains, []explain.Step{stepAt(q.Since, "queued",
				"A message (%s) came in and was accepted; it has not taken effect.", m.Kind)})
		}
	}
	if stop == nil || len(c.Queued) == 0 {
		return nil
	}
	c.Stop = &explain.Stop{Since: contract.Time(stop.StoppedAt.UTC()), Attempts: stop.Attempts, Parked: stop.Parked()}
	next := "; it is parked until an operator acts"
	if stop.RetryAt.Valid {
		c.Stop.RetryAt = contract.Time(stop.RetryAt.Time.UTC())
	}
	if !stop.Parked() {
		next = "; it is tried again"
	}
	text := fmt.Sprintf("The message at the head of the account's queue failed, attempt %d%s.", stop.Attempts, next)
	if stop.Attempts == 0 {
		text = "The message at the head of the account's queue is not known to the version of payments that runs."
	}
	c.chains = append(c.chains, []explain.Step{stepAt(c.Stop.Since, "stopped", "%s", text)})
	return nil
}

// events adds the payment's events that are not published.
func (c *collector) events(ctx context.Context, order uuid.UUID) error {
	found, more, err := c.store.Undelivered(ctx, c.about, order)
	for _, m := range found {
		c.Events = append(c.Events, eventOf(m))
	}
	if more && len(found) == 0 {
		c.Missing = append(c.Missing, explain.LongOutbox(explain.Payments))
	}
	c.Timeline = explain.Merge(c.chains...)
	return err
}

func eventOf(m outbox.Undelivered) explain.Event {
	e := explain.Event{Service: explain.Payments, Type: m.Type, State: explain.Unpublished,
		Since: contract.Time(m.CreatedAt.UTC())}
	if m.Refused {
		e.State = explain.Refused
	}
	return e
}

// received is how an operation came in; "" is as the operation says. published is when the broker got the request; zero
// where it did not come that way.
func received(op contract.Operation, came string, published time.Time) explain.Step {
	if came == "" {
		came = fmt.Sprintf("The %s%s was accepted", op.Operation, amountOf(op))
	}
	if op.Subject != "" {
		came += ", by " + op.Subject
	}
	switch {
	case op.CommandID != uuid.Nil:
		came += ", as the command " + op.CommandID.String()
	case op.IdempotencyKey != "":
		came += ", key " + op.IdempotencyKey
	case op.OrderID == uuid.Nil && op.ID.Version() == 5: // somebody else's, or from before keys were kept
		came += ", with a key of its client"
	}
	if !published.IsZero() {
		came += fmt.Sprintf(", published at %s", contract.Time(published))
	}
	s := stepAt(op.CreatedAt, "received", "%s.", came)
	if op.Note != "" {
		s.Detail += fmt.Sprintf(" Note: %q.", op.Note)
	}
	s.OperationID = op.ID
	return s
}

func stepAt(at contract.Time, what, format string, args ...any) explain.Step {
	return explain.Step{At: at, Service: explain.Payments, What: what, Detail: fmt.Sprintf(format, args...)}
}

func amountOf(op contract.Operation) string {
	if op.Amount == "" || op.Currency == "" {
		return ""
	}
	return " of " + op.Amount + " " + op.Currency
}

func inBrackets(reason string) string {
	if reason == "" {
		return ""
	}
	return " (" + reason + ")"
}
