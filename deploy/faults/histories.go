package faults

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// History is what clients asked of something and what they were told, and when: porcupine looks for an order of all
// that, one after another and within these times, in which each answer is right.
type History struct {
	mu  sync.Mutex
	ops []porcupine.Operation
}

// began is what the times of histories count from. They are not those of the clock that tells the time of day.
var began = time.Now()

func now() int64 { return time.Since(began).Nanoseconds() }

// add notes an answer, which came just now, to what a client has asked for since a time.
func (h *History) add(client int, since int64, input, output any) {
	op := porcupine.Operation{ClientId: client, Input: input, Call: since, Output: output, Return: now()}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, op)
}

// checkTimeout bounds the search for an order. Most histories need a blink of it.
const checkTimeout = time.Minute

// errUndecided says that the search took too long.
var errUndecided = fmt.Errorf("no order of the history was found, nor that there is none, within %s", checkTimeout)

// check returns an error unless the history can be explained. A history that cannot is in the error as far as it can.
func (h *History) check(model porcupine.Model) error {
	result, info := porcupine.CheckOperationsVerbose(model, h.ops, checkTimeout)
	switch result {
	case porcupine.Ok:
		return nil
	case porcupine.Unknown:
		return errUndecided
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%d answers have no order that explains them; what the longest one leaves out:", len(h.ops))
	explained := map[int]bool{}
	longest := []int(nil)
	for _, partition := range info.PartialLinearizations() {
		for _, order := range partition {
			if len(order) > len(longest) {
				longest = order
			}
		}
	}
	for _, i := range longest {
		explained[i] = true
	}
	const most = 10
	said := 0
	for i, op := range h.ops {
		if !explained[i] && said < most {
			said++
			fmt.Fprintf(&text, "\n\tclient %d, %s to %s: %s", op.ClientId, time.Duration(op.Call), time.Duration(op.Return),
				model.DescribeOperation(op.Input, op.Output))
		}
	}
	return fmt.Errorf("%s", &text)
}

// accountsOfEach is how many accounts a group has. Money moves between them.
const accountsOfEach = 3

// purses are what the accounts of a group have, in minor units: free, and held.
type purses [accountsOfEach]purse

type purse struct{ actual, frozen int64 }

// move is what a client asks of accounts: a change of some purses that needs an amount to be free in one, or the
// balance of one.
type move struct {
	what    string
	account int
	needs   int64
	by      purses
	balance bool
}

// moved is the answer.
type moved struct {
	refused bool // for lack of money
	balance purse
}

func (m move) describe(got moved) string {
	switch {
	case m.balance:
		return fmt.Sprintf("balance of account %d: %+v", m.account, got.balance)
	case got.refused:
		return fmt.Sprintf("%s of account %d, which needs %d: refused", m.what, m.account, m.needs)
	}
	return fmt.Sprintf("%s of account %d, which needs %d: done, %+v", m.what, m.account, m.needs, m.by)
}

// accounts is the model of a group's accounts, which begin with nothing.
var accounts = porcupine.Model{
	Init: func() any { return purses{} },
	Step: func(state, input, output any) (bool, any) {
		has, m, got := state.(purses), input.(move), output.(moved)
		switch enough := has[m.account].actual >= m.needs; {
		case m.balance:
			return has[m.account] == got.balance, has
		case got.refused:
			return !enough, has
		case !enough:
			return false, has
		}
		for i, by := range m.by {
			has[i].actual += by.actual
			has[i].frozen += by.frozen
		}
		return true, has
	},
	DescribeOperation: func(input, output any) string { return input.(move).describe(output.(moved)) },
}

// asked is what a client wants of an order, or a look at it.
type asked string

const (
	place   asked = "place"
	look    asked = "look"
	confirm asked = "confirm"
	reject  asked = "reject"
	refund  asked = "refund"
	cancel  asked = "cancel"
)

// told is the status with which a client was answered; "" where the answer does not say it.
type told string

// progress is how far an order has come: the last status that somebody was told, and what was asked of it.
type progress struct {
	status                         told
	confirmed, rejected, cancelled bool
}

// allowed tells whether an order may go from one status to another, perhaps by way of others, by itself or as it was
// asked to.
func (s progress) allowed(next told) bool {
	if s.status == next {
		return true
	}
	switch s.status {
	case "pending":
		return next == "authorized" || next == "paid" || next == "failed" ||
			progress{"authorized", s.confirmed, s.rejected, s.cancelled}.allowed(next)
	case "authorized":
		return next == "paid" && s.confirmed || next == "failed" && s.rejected || s.cancelled && ends(next)
	case "paid":
		return s.cancelled && (next == "cancelling" || next == "cancelled")
	case "cancelling":
		return next == "cancelled" || next == "failed"
	}
	return false
}

// ends tells whether a status may follow a request to cancel.
func ends(status told) bool {
	return status == "cancelling" || status == "cancelled" || status == "failed"
}

// orders is the model of an order.
var orders = porcupine.Model{
	Init: func() any { return progress{} },
	Step: func(state, input, output any) (bool, any) {
		is, what, got := state.(progress), input.(asked), output.(told)
		switch what {
		case place:
			if is.status == "" {
				is.status = "pending"
			}
		case confirm:
			is.confirmed = true
		case reject:
			is.rejected = true
		case cancel:
			is.cancelled = true
		}
		if got == "" {
			return is.status != "", is
		}
		ok := is.allowed(got)
		is.status = got
		return ok, is
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%s: %s", input, output) },
}
