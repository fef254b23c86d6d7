package api_test

import (
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/paymentstest"
	"github.com/altyn-pay/altyn/platform/contract"
)

func withdrawal(account uuid.UUID, amount, more string) string {
	return fmt.Sprintf(`{"operation": "withdraw", "account_id": %q, "amount": %s, "currency": "RUB"%s}`, account, amount,
		more)
}

// left is what two accounts have.
func (b *bundle) left(one, two uuid.UUID) string { return b.Balance(one) + " " + b.Balance(two) }

// The key of a batch covers all of it: with any other body nothing happens, with the same one it is a replay.
func TestABatchsKeyCoversTheBatch(t *testing.T) {
	b := setup(t, "all")
	for name, test := range map[string]struct {
		first  func(one, two uuid.UUID) string
		left   string
		same   []func(one, two uuid.UUID) string
		others []func(one, two uuid.UUID) string
	}{
		"valid ones around an invalid one": {
			func(one, two uuid.UUID) string {
				return paymentstest.BatchOf(withdrawal(one, "1", ""), withdrawal(one, "0.001", ""), withdrawal(two, "2", ""))
			}, "9.00 8.00",
			[]func(one, two uuid.UUID) string{func(one, two uuid.UUID) string {
				return " " + paymentstest.BatchOf(withdrawal(one, `"1"`,
					`, "on_insufficient": "reject", "description": "", "ticker": null`), withdrawal(one, "0.001", ""),
					fmt.Sprintf(`{"currency": "RUB", "amount": 2, "account_id": %q, "operation": "withdraw"}`,
						strings.ToUpper(two.String())))
			}},
			[]func(one, two uuid.UUID) string{
				func(one, two uuid.UUID) string {
					return paymentstest.BatchOf(withdrawal(one, "1", ""), withdrawal(two, "2", ""))
				},
				func(one, two uuid.UUID) string {
					return paymentstest.BatchOf(withdrawal(two, "2", ""), withdrawal(one, "0.001", ""), withdrawal(one, "1", ""))
				},
				func(one, two uuid.UUID) string {
					return paymentstest.BatchOf(withdrawal(one, "1", ""), withdrawal(one, "0.01", ""), withdrawal(two, "2", ""))
				},
				func(one, two uuid.UUID) string { return paymentstest.BatchOf(withdrawal(one, "1", "")) },
				func(one, two uuid.UUID) string {
					return paymentstest.BatchOf(withdrawal(one, "1", `, "reference": "r"`), withdrawal(one, "0.001", ""),
						withdrawal(two, "2", ""))
				},
				func(one, two uuid.UUID) string {
					return paymentstest.BatchOf(withdrawal(one, "1", `, "command_id": "`+uuid.NewString()+`"`),
						withdrawal(one, "0.001", ""), withdrawal(two, "2", ""))
				},
			},
		},
		"swapped": {
			func(one, two uuid.UUID) string {
				return paymentstest.BatchOf(withdrawal(one, "1", ""), withdrawal(two, "1", ""))
			}, "9.00 9.00", nil,
			[]func(one, two uuid.UUID) string{
				func(one, two uuid.UUID) string {
					return paymentstest.BatchOf(withdrawal(two, "1", ""), withdrawal(one, "1", ""))
				},
				func(one, two uuid.UUID) string {
					return paymentstest.BatchOf(withdrawal(one, "1", ""), withdrawal(one, "1", ""))
				},
			},
		},
		"invalid ones": {
			func(one, two uuid.UUID) string {
				return paymentstest.BatchOf(withdrawal(one, "0.001", ""), `{"operation": "dance"}`)
			}, "10.00 10.00", nil,
			[]func(one, two uuid.UUID) string{
				func(one, two uuid.UUID) string { return paymentstest.BatchOf(withdrawal(one, "1", "")) },
				func(one, two uuid.UUID) string {
					return paymentstest.BatchOf(withdrawal(one, "0.001", ""), withdrawal(two, "1", ""))
				},
			},
		},
		"commands with an ID": {
			func(one, two uuid.UUID) string {
				return paymentstest.BatchOf(withdrawal(one, "1", `, "command_id": "`+one.String()+`"`), withdrawal(two, "1", ""))
			}, "9.00 9.00", nil,
			[]func(one, two uuid.UUID) string{
				func(one, two uuid.UUID) string {
					return paymentstest.BatchOf(withdrawal(one, "1", `, "command_id": "`+two.String()+`"`), withdrawal(two, "1", ""))
				},
				func(one, two uuid.UUID) string { return paymentstest.BatchOf(withdrawal(two, "1", "")) },
			},
		},
	} {
		one, two, key := b.Account("10.00"), b.Account("10.00"), "the key of "+name
		first := b.Call("POST", paymentstest.BatchPath, test.first(one, two), "Idempotency-Key", key)
		if first.Status != 200 || first.Header.Get("Idempotent-Replayed") != "" || b.left(one, two) != test.left {
			t.Fatalf("%s: %s are left: %v", name, b.left(one, two), first)
		}
		for range 2 {
			for _, other := range test.others {
				if got := b.Call("POST", paymentstest.BatchPath, other(one, two), "Idempotency-Key", key); got.Status != 422 ||
					got.Body["code"] != "idempotency_key_reused" {
					t.Errorf("%s, then %s: %v", name, other(one, two), got)
				}
			}
			for _, same := range append(test.same, test.first) {
				got := b.Call("POST", paymentstest.BatchPath, same(one, two), "Idempotency-Key", `"`+key+`"`)
				if got.Status != 200 || !reflect.DeepEqual(got.Body, first.Body) ||
					got.Header.Get("Idempotent-Replayed") != "true" {
					t.Errorf("%s, again as %s: %v", name, same(one, two), got)
				}
			}
		}
		if b.left(one, two) != test.left {
			t.Errorf("%s: %s are left", name, b.left(one, two))
		}
	}
}

// Of different batches with one key at the same instant, one takes effect, in any process.
func TestOneOfManyBatchesGetsTheKey(t *testing.T) {
	b := setup(t, "all")
	first := b.URL
	second, _ := b.Start("all")
	for i := range 5 {
		one, two := b.Account("10.00"), b.Account("10.00")
		bodies := []string{paymentstest.BatchOf(withdrawal(one, "1", ""), withdrawal(two, "1", "")),
			paymentstest.BatchOf(withdrawal(two, "1", ""), withdrawal(one, "1", ""))}
		counts, mutex := map[string]int{}, sync.Mutex{}
		var wait sync.WaitGroup
		for n := range 8 {
			wait.Go(func() {
				at := *b.Bundle
				at.URL = []string{first, second}[n/2%2]
				got := at.Call("POST", paymentstest.BatchPath, bodies[n%2], "Idempotency-Key", fmt.Sprint("k", i))
				mutex.Lock()
				defer mutex.Unlock()
				counts[fmt.Sprint(got.Status, got.Header.Get("Idempotent-Replayed"))]++
			})
		}
		wait.Wait()
		if counts["200"] != 1 || counts["200true"] != 3 || counts["422"] != 4 || b.left(one, two) != "9.00 9.00" {
			t.Errorf("%v; %s are left", counts, b.left(one, two))
		}
	}
}

// What a crash between the key and the operations has left undone is done when the batch comes again.
func TestABatchIsFinishedAfterACrash(t *testing.T) {
	b := setup(t, "all")
	one, two := b.Account("10.00"), b.Account("10.00")
	sent := paymentstest.BatchOf(withdrawal(one, "1", ""), withdrawal(two, "1", ""))
	first := b.Call("POST", paymentstest.BatchPath, sent, "Idempotency-Key", "k")
	// As if it had ended after the key was stored: no trace of the operations.
	for _, statement := range []string{`DELETE FROM entries WHERE operation = 'withdraw'`,
		`DELETE FROM operations WHERE operation = 'withdraw'`,
		`UPDATE balances SET actual = 1000, entries = 1 WHERE account_id IN ('` +
			one.String() + `', '` + two.String() + `')`} {
		if _, err := b.Owner.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	if got := b.Call("POST", paymentstest.BatchPath, paymentstest.BatchOf(withdrawal(one, "2", "")),
		"Idempotency-Key", "k"); got.Status != 422 || b.left(one, two) != "10.00 10.00" {
		t.Errorf("%s are left: %v", b.left(one, two), got)
	}
	got := b.Call("POST", paymentstest.BatchPath, sent, "Idempotency-Key", "k")
	if got.Status != 200 || got.Header.Get("Idempotent-Replayed") != "true" || b.left(one, two) != "9.00 9.00" {
		t.Errorf("%s are left: %v", b.left(one, two), got)
	}
	for i, item := range got.Body["items"].([]any) {
		before := first.Body["items"].([]any)[i]
		id := func(item any) any { return item.(map[string]any)["operation"].(map[string]any)["id"] }
		if id(item) != id(before) {
			t.Errorf("item %d is %v, was %v", i, item, before)
		}
	}
}

// A version before kept no keys of batches. What it has done is recognised by the operations' IDs, which are derived
// as before.
func TestBatchesOfTheVersionBefore(t *testing.T) {
	b := setup(t, "all")
	one, two := b.Account("10.00"), b.Account("10.00")
	a, c, invalid := withdrawal(one, "1", ""), withdrawal(two, "1", ""), withdrawal(one, "0.001", "")
	sent := paymentstest.BatchOf(a, invalid, c)
	first := b.Call("POST", paymentstest.BatchPath, sent, "Idempotency-Key", "k")
	for i, account := range map[int]uuid.UUID{0: one, 2: two} {
		id := first.Body["items"].([]any)[i].(map[string]any)["operation"].(map[string]any)["id"]
		if want := contract.DerivedID(paymentstest.BatchPath, account, fmt.Sprint("k#", i)); id != want.String() {
			t.Errorf("the ID of item %d is %s, not %s as ever", i, id, want)
		}
	}
	if _, err := b.Owner.Exec(`DELETE FROM request_keys`); err != nil {
		t.Fatal(err)
	}
	for _, other := range []string{paymentstest.BatchOf(a, c), paymentstest.BatchOf(c, a),
		paymentstest.BatchOf(c, invalid, a), paymentstest.BatchOf(withdrawal(one, "2", ""), invalid, c),
		paymentstest.BatchOf(a, c, c)} {
		if got := b.Call("POST", paymentstest.BatchPath, other, "Idempotency-Key", "k"); got.Status != 422 ||
			got.Body["code"] != "idempotency_key_reused" {
			t.Errorf("%s: %v", other, got)
		}
	}
	got := b.Call("POST", paymentstest.BatchPath, sent, "Idempotency-Key", "k")
	if got.Status != 200 || !reflect.DeepEqual(got.Body, first.Body) ||
		got.Header.Get("Idempotent-Replayed") != "true" || b.left(one, two) != "9.00 9.00" {
		t.Errorf("%s are left: %v", b.left(one, two), got)
	}
}

// Earlier versions took the quotation marks of a key for a part of it. What they have accepted is found under it.
func TestQuotedKeysOfTheVersionBefore(t *testing.T) {
	b := setup(t, "all")
	account := b.Account("10.00")
	withdrawals := fmt.Sprintf("/api/v1/accounts/%s/withdrawals", account)
	for _, test := range []struct {
		path, body, other, key string
	}{
		{withdrawals, `{"amount": "1", "currency": "RUB"}`, `{"amount": "2", "currency": "RUB"}`, `"k"`},
		{paymentstest.BatchPath, paymentstest.BatchOf(withdrawal(account, "1", "")),
			paymentstest.BatchOf(withdrawal(account, "2", "")), `"k"#0`},
	} {
		first := b.Call("POST", test.path, test.body, "Idempotency-Key", "as before")
		left := b.Balance(account)
		id := contract.DerivedID(test.path, account, test.key)
		fingerprint := uuid.NewSHA1(id, []byte(`{"currency":"RUB","amount":100}withdraw`))
		if _, err := b.Owner.Exec(
			`UPDATE operations SET id = $1, fingerprint = $2 WHERE seq = (SELECT max(seq) FROM operations)`, id,
			fingerprint); err != nil {
			t.Fatal(err)
		}
		again := b.Call("POST", test.path, test.body, "Idempotency-Key", `"k"`)
		if again.Status != first.Status || again.Header.Get("Idempotent-Replayed") != "true" ||
			!strings.Contains(fmt.Sprint(again.Body), id.String()) {
			t.Errorf("%s: %v", test.path, again)
		}
		if got := b.Call("POST", test.path, test.other, "Idempotency-Key", `"k"`); got.Status != 422 ||
			got.Body["code"] != "idempotency_key_reused" {
			t.Errorf("%s with another body: %v", test.path, got)
		}
		if got := b.Balance(account); got != left {
			t.Errorf("%s: %s is left of %s", test.path, got, left)
		}
	}
	// New ones are the same with and without quotation marks.
	first := b.Call("POST", withdrawals, `{"amount": "1", "currency": "RUB"}`, "Idempotency-Key", `"new \"one\""`)
	again := b.Call("POST", withdrawals, `{"amount": "1", "currency": "RUB"}`, "Idempotency-Key", `new "one"`)
	if first.Status != 201 || again.Header.Get("Idempotent-Replayed") != "true" || again.Body["id"] != first.Body["id"] {
		t.Errorf("%v and %v", first, again)
	}
}

func TestABatchHasAResultForEachItem(t *testing.T) {
	b := setup(t, "all")
	a, other := b.Account("100.00"), b.Account("")
	hold := b.Post(fmt.Sprintf("/api/v1/accounts/%s/holds", a), `{"amount": "10.00", "currency": "RUB"}`).Body["id"]
	items := []map[string]any{
		{"operation": "withdraw", "account_id": a, "amount": "30.00", "currency": "RUB"},
		{"operation": "transfer", "from_account_id": a, "to_account_id": other, "amount": "50.00", "currency": "RUB"},
		{"operation": "withdraw", "account_id": a, "amount": "11.00", "currency": "RUB"},
		{"operation": "invoice", "wallet_id": a, "amount": 1, "ticker": "RUB", "orderID": "7"},
		{"operation": "capture", "hold_id": hold},
		{"operation": "deposit", "account_id": a, "amount": "1.001", "currency": "RUB"},
		{"operation": "dance"},
		{"operation": "create_account", "owner": "batch"},
		{"operation": "capture", "hold_id": uuid.New()},
		{"operation": "balance", "account_id": a},
	}
	want := []string{"success", "success", "insufficient_funds", "success", "success", "amount", "operation", "success",
		"hold_not_found", "operation"}
	for round := range 2 {
		got := b.Call("POST", "/api/v1/operations/batch", map[string]any{"operations": items}, "Idempotency-Key", "b")
		if got.Status != 200 {
			t.Fatalf("%v", got)
		}
		for i, item := range got.Body["items"].([]any) {
			if text := fmt.Sprint(item); !strings.Contains(text, want[i]) || item.(map[string]any)["index"] != float64(i) {
				t.Errorf("round %d, item %d: %v, want %s", round, i, item, want[i])
			}
		}
		if b.Balance(a) != "11.00" || b.Balance(other) != "50.00" {
			t.Errorf("round %d: balances %s and %s", round, b.Balance(a), b.Balance(other))
		}
	}
	for _, n := range []int{0, 1001} {
		many := make([]map[string]any, n)
		for i := range many {
			many[i] = items[0]
		}
		if got := b.Call("POST", "/api/v1/operations/batch", map[string]any{"operations": many}); got.Status != 400 {
			t.Errorf("%d items: %d", n, got.Status)
		}
	}
}
