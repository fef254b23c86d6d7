package api_test

import (
	"fmt"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
)

// deposits makes so many deposits of 1.00 each in a currency.
func (b *bundle) deposits(account uuid.UUID, currency string, n int) {
	b.Helper()
	for range n {
		b.Post("/api/v1/accounts/"+account.String()+"/deposits", map[string]any{"amount": "1", "currency": currency})
	}
}

// statement reads the currencies and numbers of an account's statement, page by page.
func (b *bundle) statement(account uuid.UUID, query string) (numbers []string) {
	b.Helper()
	for cursor := ""; ; {
		out := b.Call("GET", fmt.Sprintf("/api/v1/accounts/%s/entries?limit=2%s%s", account, query, cursor), nil)
		if out.Status != 200 {
			b.Fatalf("the statement: %d %v", out.Status, out.Body)
		}
		for _, item := range out.Body["items"].([]any) {
			numbers = append(numbers, fmt.Sprint(item.(map[string]any)["currency"], item.(map[string]any)["number"]))
		}
		next, more := out.Body["next_cursor"]
		if !more {
			return numbers
		}
		cursor = fmt.Sprint("&cursor=", next)
	}
}

func (b *bundle) had(account uuid.UUID, at time.Time) string {
	b.Helper()
	out := b.Call("GET", fmt.Sprintf("/api/v1/accounts/%s/balance?at=%s", account, at.UTC().Format(time.RFC3339Nano)), nil)
	return fmt.Sprint(out.Body["actual_balance"])
}

// An entry is not before the one whose number is lower, although the clock has been an hour ahead, and what is asked
// for by time goes by that.
func TestTheClockStepsBack(t *testing.T) {
	b := setup(t, "all")
	account := b.Account("")
	b.deposits(account, "RUB", 2)
	for _, change := range []string{
		`UPDATE entries SET created_at = created_at + interval '1 hour' WHERE account_id = $1`,
		`UPDATE balances SET entered_at = entered_at + interval '1 hour' WHERE account_id = $1`,
	} {
		if _, err := b.Owner.Exec(change, account); err != nil {
			t.Fatal(err)
		}
	}
	b.deposits(account, "RUB", 2)
	b.deposits(account, "USD", 1)
	var times []time.Time
	if err := b.Owner.Select(&times,
		`SELECT created_at FROM entries WHERE account_id = $1 AND currency = 'RUB' ORDER BY number`, account); err != nil {
		t.Fatal(err)
	}
	if !slices.IsSortedFunc(times, time.Time.Compare) || len(times) != 4 {
		t.Fatalf("the times of the entries are %v", times)
	}
	for at, want := range map[time.Time]string{
		times[0].Add(-time.Minute): "map[USD:1.00]", times[0]: "map[RUB:1.00 USD:1.00]", times[3]: "map[RUB:4.00 USD:1.00]",
	} {
		if got := b.had(account, at); got != want {
			t.Errorf("at %v there was %s, not %s", at, got, want)
		}
	}
	if got, want := b.statement(account, ""), []string{"USD1", "RUB1", "RUB2", "RUB3", "RUB4"}; !slices.Equal(got, want) {
		t.Errorf("the statement has %v, not %v", got, want)
	}
}

// Entries of versions before may have times that run against their numbers. Whatever time is asked for, the answer is
// a state that there was, never an earlier one than for an earlier time, and no line of the statement is lost or
// comes twice.
func TestTimesThatRunAgainstTheNumbers(t *testing.T) {
	b := setup(t, "all")
	account := b.Account("")
	const n = 9
	b.deposits(account, "RUB", n)
	b.deposits(account, "USD", 2)
	begin := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	minutes := []int{10, 20, 30, 15, 16, 25, 5, 40, 50} // of the entries, by number
	for i, minute := range minutes {
		if _, err := b.Owner.Exec(
			`UPDATE entries SET created_at = $3 WHERE account_id = $1 AND currency = 'RUB' AND number = $2`,
			account, i+1, begin.Add(time.Duration(minute)*time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	for at, want := range map[int]string{
		9: "map[]", 10: "map[RUB:1.00]", 19: "map[RUB:1.00]", 29: "map[RUB:2.00]", 30: "map[RUB:7.00]",
		40: "map[RUB:8.00]", 60: "map[RUB:9.00]",
	} {
		if got := b.had(account, begin.Add(time.Duration(at)*time.Minute)); got != want {
			t.Errorf("after %d minutes there was %s, not %s", at, got, want)
		}
	}
	all := []string{"RUB1", "RUB2", "RUB3", "RUB4", "RUB5", "RUB6", "RUB7", "RUB8", "RUB9", "USD1", "USD2"}
	at := func(minute int) string { return begin.Add(time.Duration(minute) * time.Minute).Format(time.RFC3339) }
	for query, want := range map[string][]string{
		"": all, "&from=" + at(30): all[2:], "&to=" + at(30): all[:2], "&from=" + at(15) + "&to=" + at(31): all[1:7],
	} {
		if got := b.statement(account, query); !slices.Equal(got, want) {
			t.Errorf("the statement %s has %v, not %v", query, got, want)
		}
	}
}

// The statement and the balance can be asked for as of a time.
func TestPointsInTime(t *testing.T) {
	b := setup(t, "all")
	account := b.Account("")
	path := fmt.Sprintf("/api/v1/accounts/%s/", account)
	for i := range 9 {
		b.Post(path+"deposits", map[string]any{"amount": "1", "currency": []string{"RUB", "USD"}[i%2]})
	}
	var entries []time.Time
	if err := b.Owner.Select(&entries, `SELECT created_at FROM entries WHERE account_id = $1 ORDER BY created_at`,
		account); err != nil {
		t.Fatal(err)
	}
	for i := range entries {
		at := entries[i].UTC().Format(time.RFC3339Nano)
		rub, usd := i/2+1, (i+1)/2
		want := fmt.Sprintf("map[RUB:%d.00 USD:%d.00]", rub, usd)
		if usd == 0 {
			want = "map[RUB:1.00]"
		}
		if got := fmt.Sprint(b.Call("GET", path+"balance?at="+at, nil).Body["actual_balance"]); got != want {
			t.Errorf("after entry %d: %s, want %s", i, got, want)
		}
		from := b.Call("GET", path+"entries?from="+at, nil).Body["items"].([]any)
		to := b.Call("GET", path+"entries?to="+at, nil).Body["items"].([]any)
		if len(from) != 9-i || len(to) != i {
			t.Errorf("from entry %d: %d, to it: %d", i, len(from), len(to))
		}
	}
	if got := fmt.Sprint(b.Call("GET", path+"balance?at=2000-01-01T00:00:00Z",
		nil).Body["actual_balance"]); got != "map[]" {
		t.Errorf("long ago: %s", got)
	}
	// A nanosecond before an entry it is not there yet, whatever the offset, and the first year is as good as another.
	before := entries[0].Add(-time.Nanosecond)
	for _, at := range []string{before.UTC().Format(time.RFC3339Nano),
		url.QueryEscape(before.In(time.FixedZone("", -86340)).Format(time.RFC3339Nano)),
		"0001-01-01T00:00:00Z"} {
		if got := fmt.Sprint(b.Call("GET", path+"balance?at="+at, nil).Body["actual_balance"]); got != "map[]" {
			t.Errorf("at %s: %s", at, got)
		}
		if got := b.Call("GET", path+"entries?to="+at, nil).Body["items"].([]any); len(got) != 0 {
			t.Errorf("to %s: %v", at, got)
		}
		if got := b.Call("GET", path+"entries?from="+at, nil).Body["items"].([]any); len(got) != 9 {
			t.Errorf("from %s: %v", at, got)
		}
	}
	for _, at := range []string{"9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59%2B23:59"} {
		if got := fmt.Sprint(b.Call("GET", path+"balance?at="+at,
			nil).Body["actual_balance"]); got != "map[RUB:5.00 USD:4.00]" {
			t.Errorf("at %s: %s", at, got)
		}
	}
}

// A cursor of a statement in very many currencies is still one that is taken.
func TestAStatementInManyCurrenciesComesInPages(t *testing.T) {
	b := setup(t, "all")
	account := b.Account("")
	var operations []any
	var currencies []string
	for _, c := range b.Call("GET", "/api/v1/currencies", nil).Body["items"].([]any) {
		currency := c.(map[string]any)["code"].(string)
		currencies = append(currencies, currency)
		operations = append(operations, map[string]any{"operation": "deposit", "account_id": account,
			"amount": "1", "currency": currency})
	}
	b.Call("POST", "/api/v1/operations/batch", map[string]any{"operations": operations})
	path, seen, cursor := fmt.Sprintf("/api/v1/accounts/%s/entries?limit=50", account), 0, ""
	for {
		page := b.Call("GET", path+cursor, nil)
		if page.Status != 200 {
			t.Fatalf("after %d entries: %v", seen, page.Body)
		}
		seen += len(page.Body["items"].([]any))
		next, more := page.Body["next_cursor"].(string)
		if !more {
			break
		}
		cursor = "&cursor=" + next
	}
	if seen != len(currencies) || seen < 100 {
		t.Errorf("%d entries in %d currencies", seen, len(currencies))
	}
}
