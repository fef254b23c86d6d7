package ledger

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
)

// OrderPayment is the payment of an order as a saga sees it. Each step of the saga is a request like any other, in the
// queue of the account that pays. Each change of the payment is a version of it, which becomes one event.
//
//	Payment     begins it: waits for inventory or money, debits, holds, or fails
//	Inventory   lets it go on to the money, or fails it
//	Confirm     captures what is held, whole or in part
//	Reject      releases what is held
//	Refund      returns what was captured, whole or in part
//	Cancel      ends it wherever it stands and gives everything back, even before it has begun
//	Expire      fails what has waited or was held for too long
//	Resume      serves what waits for money
type OrderPayment struct {
	OrderID   uuid.UUID `db:"order_id"`
	Lane      int16     `db:"lane"`
	Tenant    string    `db:"tenant"` // the order's, even where the account is another one's
	AccountID uuid.UUID `db:"account_id"`
	Currency  string    `db:"currency"`
	Amount    int64     `db:"amount"`
	Capture   string    `db:"capture"` // as in Payment
	Status    string    `db:"status"`  // one of contract's
	Reason    Reason    `db:"reason"`
	Note      string    `db:"note"` // what a client said of the last step
	Captured  int64     `db:"captured"`
	Refunded  int64     `db:"refunded"`
	Version   int64     `db:"version"` // counts the transitions, from 1
	CreatedAt time.Time `db:"created_at"`
	UpdatedAt time.Time `db:"updated_at"`

	Previous    string `db:"previous"` // the status before this one
	Traceparent string // of the message that caused this version; it is not stored
}

// balance is the balance that pays.
func (p *OrderPayment) balance() Key { return Key{p.AccountID, p.Currency, p.Lane} }

// successors is the state machine: the statuses that may follow each status; "" is before the beginning. A constraint
// of the database repeats it.
var successors = map[string][]string{
	"": {
		contract.PaymentCreated, contract.PaymentAuthorized, contract.PaymentSucceeded, contract.PaymentFailed,
		contract.PaymentCancelled,
	},
	contract.PaymentCreated: {
		contract.PaymentCreated, contract.PaymentAuthorized, contract.PaymentSucceeded, contract.PaymentFailed,
		contract.PaymentCancelled,
	},
	contract.PaymentAuthorized: {contract.PaymentSucceeded, contract.PaymentFailed, contract.PaymentCancelled},
	contract.PaymentSucceeded:  {contract.PaymentRefunded, contract.PaymentCancelled},
	contract.PaymentRefunded:   {contract.PaymentRefunded, contract.PaymentCancelled},
	contract.PaymentFailed:     {},
	contract.PaymentCancelled:  {},
}

// PaymentCanBecome tells whether a payment may go from one status to the next; "" is before its beginning.
func PaymentCanBecome(from, to string) bool { return slices.Contains(successors[from], to) }

// MaxVersion bounds the versions of a payment, and with them its events and the lines of its order's timeline. Once it
// is reached, only a cancellation gives money back.
const MaxVersion = 1000

// step is what becomes of a payment.
type step struct {
	status string
	reason Reason
	note   string
}

func created(reason Reason) step { return step{status: contract.PaymentCreated, reason: reason} }
func failed(reason Reason) step  { return step{status: contract.PaymentFailed, reason: reason} }

// become makes the payment's next version, which r has caused. The caller changes the amounts first.
func (b *Book) become(p *OrderPayment, s step, r Request) {
	if !PaymentCanBecome(p.Status, s.status) {
		panic(fmt.Sprintf("ledger: the payment of order %s is %q and cannot become %s", p.OrderID, p.Status, s.status))
	}
	p.Previous, p.Status = p.Status, s.status
	p.Reason, p.Note = s.reason, s.note
	p.Traceparent = r.Traceparent
	p.Version++
	if b.Now.After(p.UpdatedAt) { // clocks of two processes may differ, but a payment's times never run backwards
		p.UpdatedAt = b.Now
	}
	b.changes.Payments = append(b.changes.Payments, *p)
}

// begin adds a payment that is new.
func (b *Book) begin(p OrderPayment) *OrderPayment {
	p.CreatedAt, p.UpdatedAt = b.Now, b.Now
	b.payments[p.OrderID] = &p
	return &p
}

// KindPayment is the kind of Payment.
const KindPayment Kind = "payment"

// Payment begins the payment of an order. Its request has the order's ID.
type Payment struct {
	Currency    string `json:"currency,omitempty"` // where the payment is refused: money.Foreign's name of one
	Amount      int64  `json:"amount,omitempty"`
	Reference   string `json:"reference,omitempty"`
	Description string `json:"description,omitempty"`
	// WaitForFunds has it wait for money that is not there, instead of failing.
	WaitForFunds   bool      `json:"wait_for_funds,omitempty"`
	OrderID        uuid.UUID `json:"order_id,omitzero"`
	Capture        string    `json:"capture,omitempty"` // contract.CaptureAutomatic or CaptureManual
	AwaitInventory bool      `json:"await_inventory,omitempty"`
	AcceptedAt     time.Time `json:"accepted_at,omitzero"` // when the order was; zero for ReceivedAt
	ExpiresAt      time.Time `json:"expires_at,omitzero"`  // the order's own deadline; zero for the usual ones
	Refused        Reason    `json:"refused,omitempty"`    // why there can be no payment
	Repeated       bool      `json:"repeated,omitempty"`   // orders asks again, since it has heard no answer
}

func (Payment) kind() Kind { return KindPayment }
func (c Payment) references(Request) References {
	if !c.Repeated { // its payment begins with it
		return References{}
	}
	return References{Order: c.OrderID}
}

func (c Payment) needs(_ *Book, r Request, n *Needs) {
	if c.Refused != "" { // it moves no money, and there are no balances in its currency
		return
	}
	own := c.from(r)
	n.spends(own, own.beside(Revenue))
	if c.WaitForFunds {
		n.gives(own) // its row counts what waits
	}
}

func (c Payment) operation() Operation {
	return Operation{
		Kind: KindPayment, OrderID: c.OrderID, Currency: c.Currency, Amount: c.Amount,
		Reference: c.Reference, Description: c.Description,
	}
}

// payment is the payment as it stands before anything has become of it.
func (c Payment) payment(r Request) OrderPayment {
	return OrderPayment{
		OrderID: c.OrderID, Lane: r.Lane, Tenant: r.By.Normal().Tenant, AccountID: r.AccountID, Currency: c.Currency,
		Amount: c.Amount, Capture: c.Capture,
	}
}

// WaitingPayment is the payment that a request begins once it takes effect, or false if it begins none.
func WaitingPayment(r Request) (OrderPayment, bool) {
	c, ok := r.Command.(Payment)
	if !ok {
		return OrderPayment{}, false
	}
	p := c.payment(r)
	p.Status = contract.PaymentCreated
	p.CreatedAt, p.UpdatedAt = r.ReceivedAt, r.ReceivedAt
	return p, true
}

func (c Payment) apply(b *Book, r Request) *Operation {
	op, p := b.open(r), b.begin(c.payment(r))
	switch {
	case r.Discarded:
		b.close(op, Discarded)
	case c.Refused != "":
		b.close(op, c.Refused)
	case !b.reaches(r, r.AccountID):
		b.close(op, AccountNotFound)
	case b.past(c.ExpiresAt):
		b.close(op, PastDeadline)
	case c.AwaitInventory:
		b.wait(op, r, c, WaitingForInventory, r.Seq)
		b.become(p, created(WaitingForInventory), r)
		return op
	default:
		c.charge(b, op, r, r.Seq)
		return op
	}
	c.ended(b, op, r)
	return op
}

// charge takes or holds the money. If the payment must wait for money, it gets the place seq in the queue.
func (c Payment) charge(b *Book, op *Operation, r Request, seq int64) {
	reason := b.spend(op, r, c)
	if reason == WaitingForFunds {
		b.wait(op, r, c, WaitingForFunds, seq)
		b.become(b.payments[c.OrderID], created(WaitingForFunds), r)
		return
	}
	b.close(op, reason)
	c.ended(b, op, r)
}

// ended makes the payment follow its operation, which has ended.
func (c Payment) ended(b *Book, op *Operation, r Request) {
	p := b.payments[c.OrderID]
	switch {
	case op.Status == Error:
		b.become(p, failed(op.Reason), r)
	case c.Capture == contract.CaptureManual:
		b.become(p, step{status: contract.PaymentAuthorized}, r)
	default:
		p.Captured = p.Amount
		b.become(p, step{status: contract.PaymentSucceeded}, r)
	}
}

func (c Payment) from(r Request) Key { return r.balance(c.Currency) }
func (c Payment) patient() bool      { return c.WaitForFunds }

func (c Payment) deadline(r Request) deadline {
	d := deadline{from: c.AcceptedAt, at: c.ExpiresAt}
	if d.from.IsZero() {
		d.from = r.ReceivedAt
	}
	return d
}

func (c Payment) take(b *Book, op *Operation, r Request) Reason {
	own := c.from(r)
	if c.Capture == contract.CaptureManual {
		return b.hold(op, own, c.OrderID, c.deadline(r).or(HoldExpiry))
	}
	return b.move(op, own, own.beside(Revenue))
}

func (c Payment) repeated() (order uuid.UUID, again bool) { return c.OrderID, c.Repeated }
