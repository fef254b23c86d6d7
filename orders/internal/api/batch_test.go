package api_test

import (
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/orders/internal/api"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/httpserver"
)

const batchPath = "/api/v1/orders/batch"

// orderOf is the JSON of an order of an account.
func orderOf(account uuid.UUID, amount, more string) string {
	return fmt.Sprintf(`{"account_id": %q, "amount": %s, "currency": "RUB"%s}`, account, amount, more)
}

func batchOf(orders ...string) string { return `{"orders": [` + strings.Join(orders, ", ") + `]}` }

func (b bundle) orders(t testing.TB) (orders int) {
	t.Helper()
	if err := b.db.Service.Get(&orders, `SELECT count(*) FROM orders`); err != nil {
		t.Fatal(err)
	}
	return orders
}

// The key of a batch covers all of it: with any other body nothing happens, with the same one it is a replay.
func TestABatchsKeyCoversTheBatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one, two := uuid.New(), uuid.New()
	a, c, invalid := orderOf(one, `"10.00"`, ""), orderOf(two, `"20.00"`, ""), orderOf(one, `"0.001"`, "")
	for name, test := range map[string]struct {
		first  string
		valid  int // orders of it
		same   []string
		others []string
	}{
		"valid ones around an invalid one": {batchOf(a, invalid, c), 2,
			[]string{
				batchOf(a, invalid, c), "\n" + batchOf(a, strings.ReplaceAll(invalid, " ", ""), c),
				batchOf(orderOf(one, `"10.00"`, `, "capture": "automatic", "on_insufficient": "reject", "description": "",
					"reference": null`), invalid, c),
				batchOf(a, invalid, fmt.Sprintf(`{"currency": "RUB", "amount": "20.00", "account_id": %q}`,
					strings.ToUpper(two.String()))),
			},
			[]string{
				batchOf(a, c), batchOf(c, invalid, a), batchOf(invalid, a, c), batchOf(a, invalid, c, c), batchOf(a, invalid),
				batchOf(a),
				batchOf(a, invalid, a), batchOf(a, orderOf(one, `"0.01"`, ""), c), batchOf(a, orderOf(one, `"0.002"`, ""), c),
				batchOf(invalid),
				batchOf(orderOf(one, `"10.01"`, ""), invalid, c), batchOf(orderOf(one, `"10.00"`, `, "await_inventory": true`),
					invalid, c),
				batchOf(orderOf(one, `"10.00"`, `, "reference": "r"`), invalid, c),
			}},
		"two orders": {batchOf(a, c), 2, []string{batchOf(a, c)},
			[]string{batchOf(c, a), batchOf(a), batchOf(a, a), batchOf(c)}},
		"equal orders": {batchOf(a, a), 2, []string{batchOf(a, a)}, []string{batchOf(a), batchOf(a, a, a)}},
		"invalid ones": {batchOf(invalid, invalid), 0, []string{batchOf(invalid, invalid)},
			[]string{batchOf(invalid), batchOf(a, c), batchOf(c)}},
	} {
		key := "the key of " + name
		before := b.orders(t)
		answer := b.call(t, "POST", batchPath, test.first, "Idempotency-Key", key)
		first := decode[api.Results](t, answer, 200)
		if placed := b.orders(t) - before; placed != test.valid || answer.header.Get("Idempotent-Replayed") != "" {
			t.Fatalf("%s: %d were placed: %s", name, placed, answer.body)
		}
		for round := range 2 {
			for _, other := range test.others {
				answer := b.call(t, "POST", batchPath, other, "Idempotency-Key", key)
				wantProblem(t, answer, 422, httpserver.CodeIdempotencyKeyReused)
			}
			for _, same := range test.same {
				answer := b.call(t, "POST", batchPath, same, "Idempotency-Key", `"`+key+`"`)
				if again := decode[api.Results](t, answer, 200); !reflect.DeepEqual(again, first) ||
					answer.header.Get("Idempotent-Replayed") != "true" {
					t.Errorf("%s, round %d, again as %s: %s", name, round, same, answer.body)
				}
			}
			if placed := b.orders(t) - before; placed != test.valid {
				t.Errorf("%s, round %d: %d orders in all", name, round, placed)
			}
		}
	}
	// Another key is another batch, and without one each request is.
	before := b.orders(t)
	for _, headers := range [][]string{{"Idempotency-Key", "another"}, nil, nil} {
		if answer := b.call(t, "POST", batchPath, batchOf(a, c), headers...); answer.status != 200 ||
			answer.header.Get("Idempotent-Replayed") != "" {
			t.Errorf("%v: %s", headers, answer.body)
		}
	}
	if placed := b.orders(t) - before; placed != 6 {
		t.Errorf("%d orders of three batches", placed)
	}
}

// Of different batches with one key at the same instant, one is placed.
func TestOneOfManyBatchesGetsTheKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one, two := uuid.New(), uuid.New()
	bodies := []string{batchOf(orderOf(one, "1", ""), orderOf(two, "1", "")),
		batchOf(orderOf(two, "1", ""), orderOf(one, "1", ""))}
	for i := range 10 {
		key, before := fmt.Sprint("key ", i), b.orders(t)
		answers := make([]answer, 8)
		var wait sync.WaitGroup
		for n := range answers {
			wait.Go(func() { answers[n] = b.call(t, "POST", batchPath, bodies[n%2], "Idempotency-Key", key) })
		}
		wait.Wait()
		count := map[string]int{}
		for n, a := range answers {
			count[fmt.Sprintf("%d %d %s", n%2, a.status, a.header.Get("Idempotent-Replayed"))]++
		}
		if placed := b.orders(t) - before; placed != 2 || count["0 200 "]+count["1 200 "] != 1 ||
			count["0 200 true"]+count["1 200 true"] != 3 || count["0 422 "]+count["1 422 "] != 4 {
			t.Errorf("%d orders: %v", placed, count)
		}
	}
}

// What a crash between the key and the orders has left undone is done when the batch comes again.
func TestABatchIsFinishedAfterACrash(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sent := batchOf(orderOf(uuid.New(), "1", ""), orderOf(uuid.New(), "2", ""))
	if _, err := b.db.Owner.Exec(`ALTER TABLE orders ADD CONSTRAINT crash CHECK (amount <> 200)`); err != nil {
		t.Fatal(err)
	}
	if a := b.call(t, "POST", batchPath, sent, "Idempotency-Key", "k"); a.status < 500 || b.orders(t) != 0 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if _, err := b.db.Owner.Exec(`ALTER TABLE orders DROP CONSTRAINT crash`); err != nil {
		t.Fatal(err)
	}
	wantProblem(t, b.call(t, "POST", batchPath, batchOf(orderOf(uuid.New(), "1", "")), "Idempotency-Key", "k"), 422,
		httpserver.CodeIdempotencyKeyReused)
	a := b.call(t, "POST", batchPath, sent, "Idempotency-Key", "k")
	if got := decode[api.Results](t, a, 200); got.Items[0].Order == nil || got.Items[1].Order == nil || b.orders(t) != 2 ||
		a.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("%d orders: %s", b.orders(t), a.body)
	}
}

// A version before kept no keys of batches. What it has placed is recognised by the orders' IDs, which are derived as
// before.
func TestBatchesOfTheVersionBefore(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one, two := uuid.New(), uuid.New()
	a, c, invalid := orderOf(one, `"10.00"`, ""), orderOf(two, `"20.00"`, ""), orderOf(one, `"0.001"`, "")
	sent := batchOf(a, invalid, c)
	first := decode[api.Results](t, b.call(t, "POST", batchPath, sent, "Idempotency-Key", "k"), 200)
	for i, account := range map[int]uuid.UUID{0: one, 2: two} {
		if want := contract.DerivedID(batchPath, account, fmt.Sprint(i, ":k")); first.Items[i].Order.ID != want {
			t.Errorf("the ID of item %d is %s, not %s as ever", i, first.Items[i].Order.ID, want)
		}
	}
	if _, err := b.db.Owner.Exec(`DELETE FROM request_keys`); err != nil {
		t.Fatal(err)
	}
	for _, other := range []string{batchOf(a, c), batchOf(c, a), batchOf(c, invalid, a),
		batchOf(orderOf(one, "11", ""), invalid, c), batchOf(c), batchOf(a, c, c)} {
		wantProblem(t, b.call(t, "POST", batchPath, other, "Idempotency-Key", "k"), 422, httpserver.CodeIdempotencyKeyReused)
	}
	answer := b.call(t, "POST", batchPath, sent, "Idempotency-Key", "k")
	if again := decode[api.Results](t, answer, 200); !reflect.DeepEqual(again, first) ||
		answer.header.Get("Idempotent-Replayed") != "true" || b.orders(t) != 2 {
		t.Errorf("%d orders: %s", b.orders(t), answer.body)
	}
}

// Earlier versions took the quotation marks of a key for a part of it. What they have placed is found under it.
func TestQuotedKeysOfTheVersionBefore(t *testing.T) {
	t.Parallel()
	b := setup(t)
	payer := uuid.New()
	sent := orderOf(payer, "1", "")
	for _, test := range []struct {
		path, body, other, key string
	}{
		{api.Path, sent, orderOf(payer, "2", ""), `"k"`},
		{batchPath, batchOf(sent), batchOf(orderOf(payer, "2", "")), `0:"k"`},
	} {
		before := b.orders(t)
		first := b.call(t, "POST", test.path, test.body, "Idempotency-Key", "as before")
		id := contract.DerivedID(test.path, payer, test.key)
		if _, err := b.db.Owner.Exec(`UPDATE orders SET id = $1 WHERE seq = (SELECT max(seq) FROM orders)`, id); err != nil {
			t.Fatal(err)
		}
		again := b.call(t, "POST", test.path, test.body, "Idempotency-Key", `"k"`)
		if again.status != first.status || again.header.Get("Idempotent-Replayed") != "true" ||
			!strings.Contains(string(again.body), id.String()) {
			t.Errorf("%s: %d %v %s", test.path, again.status, again.header, again.body)
		}
		wantProblem(t, b.call(t, "POST", test.path, test.other, "Idempotency-Key", `"k"`), 422,
			httpserver.CodeIdempotencyKeyReused)
		if placed := b.orders(t) - before; placed != 1 {
			t.Errorf("%s: %d orders", test.path, placed)
		}
	}
}
