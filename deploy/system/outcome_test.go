package system

import (
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/testkit/localkafka"
	"github.com/altyn-pay/altyn/testkit/localpostgres"
)

// PostgreSQL dies again and again while clients without keys pay in and order, and nobody repeats anything: what was
// accepted has happened once, what is unavailable has not happened, and of the rest the answer says where to look.
func TestAnswersWhilePostgreSQLDies(t *testing.T) {
	b := setup(t, localkafka.Embedded, stack.Instances(1, 1, 1))
	account := b.accounts(1, "")[0]
	var stop atomic.Bool
	var accepted atomic.Int64
	var mu sync.Mutex
	answers := make(map[string][]string) // the references of what was sent, by the code of the answer
	places := make(map[string]string)    // of what is unknown, by reference
	send := func() {
		reference := uuid.NewString()
		path, body := "/api/v1/accounts/"+account.String()+"/deposits",
			map[string]any{"amount": "1", "currency": "RUB", "reference": reference}
		if reference[0] < '8' {
			path, body["account_id"] = "/api/v1/orders", account
		}
		err := b.client.Call("POST", path, "", body, nil)
		code := "done"
		var status *load.StatusError
		switch {
		case err == nil:
			accepted.Add(1)
		case errors.As(err, &status):
			code = status.Code()
		default:
			code = err.Error()
		}
		mu.Lock()
		defer mu.Unlock()
		answers[code] = append(answers[code], reference)
		if code == "outcome_unknown" {
			var problem struct{ Location string }
			_ = json.Unmarshal([]byte(status.Body), &problem)
			places[reference] = problem.Location
		}
	}
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for !stop.Load() {
				send()
			}
		})
	}
	for range 4 {
		b.progress(&accepted, 100)
		if err := b.StopPostgres(localpostgres.Immediate); err != nil {
			t.Fatal(err)
		}
		if err := b.Restart(stack.PostgresName); err != nil {
			t.Fatal(err)
		}
	}
	b.progress(&accepted, 100)
	stop.Store(true)
	clients.Wait()
	if _, err := b.books(); err != nil {
		t.Fatalf("the books are wrong: %v", err)
	}
	happened := b.references()
	for code, references := range answers {
		t.Logf("%d × %s", len(references), code)
		for _, reference := range references {
			place, there := places[reference], false
			if place != "" {
				err := b.client.Call("GET", place, "", nil, nil)
				var status *load.StatusError
				if there = err == nil; !there && (!errors.As(err, &status) || status.Status != http.StatusNotFound) {
					t.Errorf("at %q: %v", place, err)
				}
			}
			switch {
			case code == "done" && happened[reference] == 1:
			case code == "unavailable" && happened[reference] == 0:
			case code == "outcome_unknown" && happened[reference] == map[bool]int{true: 1}[there] && place != "":
			default:
				t.Errorf("%s: it has happened %d times, at %q (%t)", code, happened[reference], place, there)
			}
		}
	}
}

// references are those of all deposits and orders, with how often each was accepted.
func (b *bundle) references() map[string]int {
	b.Helper()
	var deposits, orders []string
	if err := b.payments.Select(&deposits, `SELECT reference FROM operations WHERE operation = 'deposit'`); err != nil {
		b.Fatal(err)
	}
	if err := b.orders.Select(&orders, `SELECT reference FROM orders`); err != nil {
		b.Fatal(err)
	}
	counts := make(map[string]int)
	for _, reference := range append(deposits, orders...) {
		counts[reference]++
	}
	return counts
}
