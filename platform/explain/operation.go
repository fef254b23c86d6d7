package explain

import (
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
)

// OfOperation completes what payments has gathered of an operation with its sentences.
func OfOperation(e *Explanation, now time.Time) {
	t := text{now: now}
	op := e.Operation
	e.Status = op.Status
	what := naming(op)
	switch {
	case op.Status == "success":
		t.say("%s took effect at %s.", what, clock(op.SettledAt))
		t.succeeded(e)
	case op.Status == "error":
		t.say("%s failed: %s. It moved no money.", what, why(op.Reason))
		if remedy, ok := remedies[op.Reason]; ok {
			t.can("%s", remedy)
		}
	case len(e.Queued) > 0:
		t.queued(e.Queued[0], e.Stop, what)
	case e.Wait != nil:
		t.say("%s was accepted at %s.", what, clock(op.CreatedAt))
		t.wait(e.Wait, op.Amount+" "+op.Currency)
	default:
		t.say("%s was accepted at %s and has not taken effect.", what, clock(op.CreatedAt))
		if op.Reason != "" {
			t.say("In short, %s.", why(op.Reason))
		}
	}
	switch {
	case op.OrderID != uuid.Nil:
		t.can("It belongs to an order: GET /api/v1/orders/%s/explain tells of that.", op.OrderID)
	case op.Status == "created":
		t.can("To give it up: POST /api/v1/operations/%s/cancel.", op.ID)
	}
	t.into(e)
}

// succeeded tells what came after.
func (t *text) succeeded(e *Explanation) {
	if e.Hold == nil || e.Operation.Operation != "hold" {
		return
	}
	if e.Hold.Status != "open" {
		t.say("The hold is %s.", e.Hold.Status)
		return
	}
	t.say("The money is held until the hold is captured or released, until %s at the latest.", clock(e.Hold.ExpiresAt))
	t.can("POST /api/v1/holds/%s/capture takes it, all of it or a part; POST /api/v1/holds/%s/release gives it back.",
		e.Operation.ID, e.Operation.ID)
}

// naming is what an operation is, as the beginning of a sentence.
func naming(op *contract.Operation) string {
	amount := ""
	if op.Amount != "" && !zero(op.Amount) {
		amount = " of " + op.Amount + " " + op.Currency
	}
	switch op.Operation {
	case "create_account":
		return "The opening of the account " + op.AccountID.String()
	case "deposit":
		return "The deposit" + amount + " on the account " + op.AccountID.String()
	case "withdraw":
		return "The withdrawal" + amount + " from the account " + op.AccountID.String()
	case "transfer":
		return "The transfer" + amount + " from the account " + op.AccountID.String() + " to " + op.ToAccountID.String()
	case "hold":
		return "The hold" + amount + " on the account " + op.AccountID.String()
	case "capture":
		return "The capture" + amount + " of the hold " + op.HoldID.String()
	case "release":
		return "The release" + amount + " of the hold " + op.HoldID.String()
	case "payment":
		return "The payment" + amount + " of the order " + op.OrderID.String()
	case "refund":
		return "The refund" + amount + " of the order " + op.OrderID.String()
	}
	return "The operation"
}
