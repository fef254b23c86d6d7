// Package explain says of an order or an operation where it is, why, and what a person can do next. Each service has
// the facts that it knows, and a timeline of them. OfOrder and OfOperation make plain sentences of the facts of one
// service or of both; they do no I/O.
package explain

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
)

// Services, as steps and gaps name them.
const (
	Orders   = "orders"
	Payments = "payments"
)

// Explanation answers "where is it?".
type Explanation struct {
	ID      uuid.UUID `json:"id"`
	Summary string    `json:"summary" example:"The order is paid: 60.00 RUB were taken."`
	Status  string    `json:"status" example:"paid"` // of the order or operation
	// whether it stands still for a reason that is not a client's: Next says what an operator does
	Stuck    bool     `json:"stuck" example:"false"`
	Next     []string `json:"next"` // what a person can do
	Timeline []Step   `json:"timeline"`
	// of the request that placed the order, where it is known
	TraceID string `json:"trace_id,omitempty" example:"0af7651916cd43dd8448eb211c80319c"`
	Facts
	// what is not in here, and why
	Missing []Gap `json:"missing,omitempty"`
} // @name Explanation

// Facts are what the sentences are made of.
type Facts struct {
	Order     *Order              `json:"order,omitempty"`
	Payment   *contract.Payment   `json:"payment,omitempty"` // in its present version
	Operation *contract.Operation `json:"operation,omitempty"`
	Hold      *Hold               `json:"hold,omitempty"`
	Wait      *Wait               `json:"wait,omitempty"`
	// messages about it that payments has accepted and that have not taken effect, oldest first
	Queued []Queued `json:"queued,omitempty"`
	Stop   *Stop    `json:"stop,omitempty"`
	// events that are stored and not published, that are parked, or that wait for another version
	Events []Event `json:"events,omitempty"`
}

// Order is an order as the service orders has it.
type Order struct {
	AccountID      uuid.UUID     `json:"account_id"`
	Amount         string        `json:"amount"`
	Currency       string        `json:"currency"`
	Capture        string        `json:"capture" enums:"automatic,manual"`
	Status         string        `json:"status" enums:"pending,authorized,paid,failed,cancelling,cancelled"`
	Reason         string        `json:"reason,omitempty"`
	CapturedAmount string        `json:"captured_amount"`
	RefundedAmount string        `json:"refunded_amount"`
	PlacedBy       string        `json:"placed_by,omitempty"` // the token's sub
	Keyed          bool          `json:"keyed"`               // the request had an Idempotency-Key
	CreatedAt      contract.Time `json:"created_at"`
	UpdatedAt      contract.Time `json:"updated_at"`
	ExpiresAt      contract.Time `json:"expires_at,omitzero" validate:"optional"`
	// the highest version of the payment that the order has seen; 0 is none
	PaymentVersion int64 `json:"payment_version"`
	// how often the order was announced again because no answer had come, when last, and when next
	Asked   int           `json:"asked,omitempty"`
	AskedAt contract.Time `json:"asked_at,omitzero" validate:"optional"`
	AskAt   contract.Time `json:"ask_at,omitzero" validate:"optional"`
} // @name ExplainedOrder

// Hold is the hold of an operation or of an order's payment.
type Hold struct {
	Status    string        `json:"status" enums:"open,captured,released,expired"`
	ExpiresAt contract.Time `json:"expires_at"`
} // @name ExplainedHold

// Wait is what a payment or an operation waits for.
type Wait struct {
	For   string        `json:"for" enums:"waiting_for_funds,waiting_for_inventory"`
	Until contract.Time `json:"until,omitzero" validate:"optional"` // then it fails as expired
	// how many others of the account take their turn before it, at most 1,000 counted
	Behind int `json:"behind,omitempty"`
	// the first of them, and what the account has free: only for those who may read the account
	First     uuid.UUID `json:"first,omitzero" validate:"optional"`
	Available string    `json:"available,omitempty"`
} // @name ExplainedWait

// Queued is a message that payments has accepted and that has not taken effect.
type Queued struct {
	Kind  string        `json:"kind" example:"payment"`
	Since contract.Time `json:"since"`
	Head  bool          `json:"head,omitempty"` // the account's queue stands still because this message failed
} // @name QueuedMessage

// Stop says that the queue of the account stands still, since the message at its head could not be processed.
type Stop struct {
	Since    contract.Time `json:"since"` // the last attempt
	Attempts int           `json:"attempts"`
	// when it is tried again; without one it is parked until an operator acts
	RetryAt contract.Time `json:"retry_at,omitzero" validate:"optional"`
	Parked  bool          `json:"parked"`
} // @name StoppedQueue

// Where an Event is.
const (
	Unpublished = "unpublished" // in the outbox: the broker has not taken it yet
	Refused     = "refused"     // parked in the outbox: the broker does not take it
	Unapplied   = "unapplied"   // parked where it was read: it could not be applied
	Unknown     = "unknown"     // kept where it was read, for a version that knows it
)

// Event is an event that has not reached its reader.
type Event struct {
	Service string        `json:"service" enums:"orders,payments"` // where it is
	Type    string        `json:"type" example:"order.placed"`
	State   string        `json:"state" enums:"unpublished,refused,unapplied,unknown"`
	Since   contract.Time `json:"since"`
} // @name UndeliveredEvent

// arrived tells whether the event has come to its reader, without an effect.
func (e Event) arrived() bool { return e.State == Unapplied || e.State == Unknown }

// Step is something that has happened.
type Step struct {
	At          contract.Time `json:"at"`
	Service     string        `json:"service" enums:"orders,payments"`
	What        string        `json:"what" enums:"placed,status,asked,event,received,settled,entry,queued,stopped"`
	Detail      string        `json:"detail" example:"60.00 RUB were taken."`
	EventID     uuid.UUID     `json:"event_id,omitzero" validate:"optional"`
	OperationID uuid.UUID     `json:"operation_id,omitzero" validate:"optional"`
	Entry       *Entry        `json:"entry,omitempty"`
} // @name TimelineStep

// Entry is a line of an account's statement, with the balances before and after it.
type Entry struct {
	AccountID     uuid.UUID `json:"account_id"`
	Number        int64     `json:"number"`
	Currency      string    `json:"currency"`
	Amount        string    `json:"amount"` // the change of the actual balance
	Frozen        string    `json:"frozen"` // the change of the frozen balance
	BalanceBefore string    `json:"balance_before"`
	BalanceAfter  string    `json:"balance_after"`
	FrozenBefore  string    `json:"frozen_before"`
	FrozenAfter   string    `json:"frozen_after"`
} // @name ExplainedEntry

// Gap is something that is not in an explanation.
type Gap struct {
	What string `json:"what" example:"payments"`
	Why  string `json:"why" example:"the token lacks the scope payments:read"`
	// whether asking again later may help
	Away bool `json:"away" example:"false"`
} // @name ExplanationGap

// Merge makes one timeline of several, each of which is in the order of causes. Clocks may differ: a step stays behind
// those before it in its own timeline.
func Merge(timelines ...[]Step) []Step {
	type placed struct {
		Step
		after time.Time
	}
	var all []placed
	for _, steps := range timelines {
		var latest time.Time
		for _, s := range steps {
			if at := time.Time(s.At); at.After(latest) {
				latest = at
			}
			all = append(all, placed{s, latest})
		}
	}
	slices.SortStableFunc(all, func(a, b placed) int { return a.after.Compare(b.after) })
	merged := make([]Step, len(all))
	for i, p := range all {
		merged[i] = p.Step
	}
	return merged
}

// LongOutbox is the gap where the outbox of a service has more than is looked at.
func LongOutbox(service string) Gap {
	return Gap{What: "outbox of " + service, Away: true,
		Why: "more waits for the broker than is looked at: events of this may be among it"}
}
