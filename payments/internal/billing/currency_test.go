package billing_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/altyn-pay/altyn/payments/internal/paymentstest"
	"github.com/altyn-pay/altyn/platform/contract"
)

// An order whose currency is not known here, or has other digits here, fails: nothing is taken, and its event has the
// amount as orders has it.
func TestAnOrderInAnotherCurrencyFails(t *testing.T) {
	b := setup(t, "all")
	account := b.Account("1000.00")
	foreign := map[string]contract.Order{}
	for amount, currency := range map[string]string{"10.000": "RUB", "10": "RUB", "10.0": "RUB", "10.01": "XQQ",
		"7": "XQX", "0.000000000000000001": "RUB", "10.00": "JPY"} {
		o := paymentstest.Order(account, amount)
		o.Currency = currency
		foreign[amount] = o
	}
	for _, change := range []func(o *contract.Order){
		func(o *contract.Order) { o.Amount, o.Capture = "20.000", contract.CaptureManual },
		func(o *contract.Order) { o.Amount, o.AwaitInventory = "21.000", true },
		func(o *contract.Order) { o.Amount, o.OnInsufficient = "22.000", contract.OnInsufficientWait },
	} {
		o := paymentstest.Order(account, "")
		change(&o)
		foreign[o.Amount] = o
	}
	for _, o := range foreign {
		b.Produce(paymentstest.Placed(o), paymentstest.Placed(o), paymentstest.Cancelled(o, "too late"))
	}
	early := paymentstest.Order(account, "30.000")
	b.Produce(paymentstest.Cancelled(early, "before it came"), paymentstest.Placed(early))
	begun := paymentstest.Order(account, "40.00")
	b.Place(begun, "succeeded")
	changed := begun
	changed.Amount, changed.Repeated = "40.000", true
	b.Produce(paymentstest.Placed(changed), paymentstest.Cancelled(changed, "by an orders with another file"))

	published := b.published()
	for amount, o := range foreign {
		if events := published[o.OrderID]; len(events) != 1 {
			t.Errorf("%s: %d events: %v", amount, len(events), events)
			continue
		}
		state, _, _ := strings.Cut(strings.SplitN(published[o.OrderID][0], " ", 3)[2], "\n")
		var p contract.Payment
		if err := json.Unmarshal([]byte(state), &p); err != nil {
			t.Fatal(err)
		}
		zero := "0" + strings.TrimLeft(amount, "0123456789")
		zero = strings.Map(func(r rune) rune {
			if r == '.' {
				return r
			}
			return '0'
		}, zero)
		if p.Status != "failed" || p.Reason != "currency_mismatch" || p.Amount != amount || p.Currency != o.Currency ||
			p.CapturedAmount != zero || p.Version != 1 {
			t.Errorf("%s: %+v", amount, p)
		}
		b.Expect(b.Call("GET", "/api/v1/payments/"+o.OrderID.String(), nil), 200, "status", "failed", "reason",
			"currency_mismatch", "amount", amount, "currency", o.Currency)
		b.Expect(b.Call("GET", "/api/v1/operations/"+o.OrderID.String(), nil), 200, "status", "error", "reason",
			"currency_mismatch", "amount", amount, "currency", o.Currency)
	}
	if events := published[early.OrderID]; len(events) != 1 || !strings.Contains(events[0], `"amount":"30.000"`) ||
		!strings.Contains(events[0], `"status":"cancelled"`) {
		t.Errorf("cancelled before it came: %v", events)
	}
	if events := published[begun.OrderID]; len(events) < 2 ||
		!strings.Contains(events[len(events)-1], `"status":"cancelled"`) {
		t.Errorf("a payment that had begun: %v", events)
	}
	if got := b.Balances(account); got != "1000.00 0.00" {
		t.Errorf("in the end: %s", got)
	}
	b.Until(0, `SELECT count(*) FROM balances WHERE currency LIKE '%,%'`)
	b.Until(0, `SELECT count(*) FROM waits`)
	b.Until(0, `SELECT count(*) FROM holds`)
}
