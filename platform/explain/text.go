package explain

import (
	"fmt"
	"strings"
	"time"

	"github.com/altyn-pay/altyn/platform/contract"
)

// usual is how long a step takes at most while all is well.
const usual = 10 * time.Second

// text collects sentences, and what a person can do.
type text struct {
	now       time.Time
	sentences []string
	next      []string
	stuck     bool
}

func (t *text) say(format string, args ...any) {
	t.sentences = append(t.sentences, fmt.Sprintf(format, args...))
}

func (t *text) can(format string, args ...any) { t.next = append(t.next, fmt.Sprintf(format, args...)) }

// stand says that it stands still, and what to do.
func (t *text) stand(format string, args ...any) {
	t.stuck = true
	t.can(format, args...)
}

// age is how long ago something was.
func (t *text) age(at contract.Time) time.Duration { return max(0, t.now.Sub(time.Time(at))) }

// since is a time and how long ago it was, in words.
func (t *text) since(at contract.Time) string {
	return fmt.Sprintf("since %s (%s)", clock(at), span(t.age(at)))
}

// into fills in what the sentences say.
func (t *text) into(e *Explanation) {
	e.Summary, e.Stuck = strings.Join(t.sentences, " "), t.stuck
	if e.Next = t.next; e.Next == nil {
		e.Next = []string{"Nothing has to be done."}
	}
	if e.Timeline == nil {
		e.Timeline = []Step{}
	}
}

func clock(at contract.Time) string { return time.Time(at).UTC().Format("2006-01-02 15:04:05 UTC") }

// span is a duration in words, in its two largest units.
func span(d time.Duration) string {
	type unit struct {
		size time.Duration
		name string
	}
	units := []unit{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "min"}, {time.Second, "s"}}
	for i, u := range units {
		if d < u.size {
			continue
		}
		words := fmt.Sprintf("%d %s", d/u.size, u.name)
		if i+1 < len(units) {
			if rest := d % u.size / units[i+1].size; rest > 0 {
				words += fmt.Sprintf(" %d %s", rest, units[i+1].name)
			}
		}
		return words
	}
	return "less than 1 s"
}

// zero tells whether an amount is zero.
func zero(amount string) bool { return strings.Trim(amount, "0.") == "" }

// whys say in words why something failed.
var whys = map[string]string{
	"account_not_found":          "there is no such account",
	"account_exists":             "there is an account with this ID already",
	"same_account":               "payer and payee are the same account",
	"insufficient_funds":         "the account had not enough money",
	"balance_too_large":          "a balance would become too large",
	"hold_not_found":             "there is no such hold",
	"hold_not_open":              "the hold was captured, released or has expired before",
	"amount_exceeds_hold":        "it is more than was held",
	"hold_of_order":              "the hold is an order's, and ends through that order's payment only",
	"payment_not_found":          "there is no such payment",
	"payment_not_authorized":     "the payment held no money that could be confirmed or rejected",
	"payment_not_captured":       "nothing was taken that could be refunded",
	"amount_exceeds_captured":    "it is more than was left of what was taken",
	"too_many_refunds":           "the payment was refunded too often",
	"currency_mismatch":          "payments does not know the order's currency, or knows it with other digits",
	"rejected":                   "the payment was rejected",
	"out_of_stock":               "the goods are not there",
	"expired":                    "its time was over",
	contract.ReasonCancelled:     "it was cancelled",
	"discarded":                  "an operator gave it up after it could not be processed",
	contract.WaitingForFunds:     "it waits for money",
	contract.WaitingForInventory: "it waits for the goods",
}

// why is a reason in words.
func why(reason string) string {
	if words, ok := whys[reason]; ok {
		return words
	}
	return strings.ReplaceAll(reason, "_", " ")
}

// remedies are what a client can do after a failure.
var remedies = map[string]string{
	"account_not_found":  "Look at the account's ID: it must exist, and belong to whom the token says.",
	"insufficient_funds": "Deposit money and ask again; with on_insufficient: wait it waits for money instead of failing.",
	"expired":            "Ask again; expires_in gives it more time.",
	"out_of_stock":       "Place another order once the goods are there.",
	"discarded":          "Ask again; GET /admin/actions of payments says who gave it up, and why.",
	"currency_mismatch":  "An operator gives both services the same currencies; then place the order again.",
}

// wait says what a payment or an operation waits for, and until when.
func (t *text) wait(w *Wait, amount string) {
	if w.For == contract.WaitingForInventory {
		t.say("It waits for the goods%s.", until(w))
		t.can("The inventory system says COMPLETED or FAILED for this order on the topic inventory.")
		return
	}
	have := ""
	if w.Available != "" {
		have = ", of which the account has " + w.Available + " free"
	}
	t.say("It waits for money: %s%s%s.", amount, have, until(w))
	if w.Behind > 0 {
		first := ""
		if w.First != (Wait{}).First {
			first = ", the first of which is " + w.First.String()
		}
		t.say("%s of the account before it%s.", others(w.Behind), first)
		t.can("The first in the queue needs money, or must be cancelled, before this one has its turn.")
	}
	t.can("Deposit money on the account: it then goes on by itself.")
}

func until(w *Wait) string {
	if w.Until.IsZero() {
		return ""
	}
	return ", until " + clock(w.Until) + " at the latest"
}

// maxCounted is how many others are counted.
const maxCounted = 1000

func others(n int) string {
	switch {
	case n == 1:
		return "There is 1 other"
	case n >= maxCounted:
		return fmt.Sprintf("There are %d others or more", maxCounted)
	}
	return fmt.Sprintf("There are %d others", n)
}

// queued says that a message has not taken effect, and why. what is how the sentence calls it.
func (t *text) queued(q Queued, stop *Stop, what string) {
	switch {
	case stop == nil:
		t.say("%s is accepted by payments and has not taken effect, %s.", what, t.since(q.Since))
		if t.age(q.Since) > usual {
			t.stand("An operator looks whether payments settles at all: altyn_inbox_oldest_seconds and the log of payments.")
		} else {
			t.can("Wait a moment, and look again.")
		}
		return
	case stop.Attempts == 0:
		t.say("%s is accepted by payments; the queue of its account waits at a message of a newer version of payments.", what)
		t.stand("It goes on by itself once an instance of that version runs.")
		return
	case q.Head:
		t.say("%s is accepted by payments and failed %s; the queue of its account stands still.", what, times(stop.Attempts))
	default:
		t.say("%s is accepted by payments and stands in a queue that stands still: "+
			"an earlier message of the account failed %s.", what, times(stop.Attempts))
	}
	if stop.Parked {
		t.stand("An operator mends the cause, then redrives or discards the message: GET /admin/parked of payments.")
		return
	}
	if !stop.RetryAt.IsZero() {
		t.say("It is tried again at %s.", clock(stop.RetryAt))
	}
	t.stand("It is tried again by itself, and is parked for an operator when that fails too often.")
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// undelivered says where an event is.
func (t *text) undelivered(e Event) {
	switch e.State {
	case Refused:
		t.say("The broker does not take the event %s, or an earlier one of the account; "+
			"it is parked in the outbox of %s, %s.", e.Type, e.Service, t.since(e.Since))
		t.stand("An operator mends the cause, then redrives or discards what is parked: GET /admin/parked of %s.", e.Service)
	case Unapplied:
		t.say("The event %s came to orders and could not be applied; it is parked, %s.", e.Type, t.since(e.Since))
		t.stand("An operator mends the cause, then redrives the event: GET /admin/parked of orders.")
	case Unknown:
		t.say("The event %s came to orders, which runs in a version that does not know it, %s.", e.Type, t.since(e.Since))
		t.stand("It takes effect by itself once a version of orders runs that knows it.")
	default:
		t.say("The event %s is stored in %s and not published, %s.", e.Type, e.Service, t.since(e.Since))
		if t.age(e.Since) <= usual {
			t.can("Wait a moment, and look again.")
			return
		}
		t.say("Nothing is lost: the broker may be away, or the relay of %s stands still.", e.Service)
		t.stand("An operator looks whether the broker answers: /readyz of %s, altyn_outbox_oldest_seconds. "+
			"It goes on by itself then.", e.Service)
	}
}
