package api_test

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/paymentstest"
	"github.com/altyn-pay/altyn/platform/contract"
)

// export reads what is streamed.
func (b *bundle) export(path, accept string, headers ...string) (text string, header http.Header) {
	b.Helper()
	request, err := http.NewRequestWithContext(b.Context(), "GET", b.Base(path)+path, nil)
	if err != nil {
		b.Fatal(err)
	}
	request.Header.Set("Accept", accept)
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != 200 {
		b.Fatalf("%s as %s: %d %s %v", path, accept, response.StatusCode, body, err)
	}
	return string(body), response.Header
}

// whole reads a list page by page.
func (b *bundle) whole(path string) (items []map[string]any) {
	b.Helper()
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	for cursor := ""; ; {
		out := b.Call("GET", path+separator+"limit=3"+cursor, nil)
		for _, item := range out.Body["items"].([]any) {
			items = append(items, item.(map[string]any))
		}
		next, more := out.Body["next_cursor"]
		if !more {
			return items
		}
		cursor = fmt.Sprint("&cursor=", next)
	}
}

// everyFlow moves money in every way there is, and returns the accounts.
func everyFlow(b *bundle) (accounts []uuid.UUID) {
	b.Helper()
	for range 2 {
		accounts = append(accounts, b.Account("1000"))
	}
	of := func(account uuid.UUID, what string, body string) string {
		id, _ := b.Call("POST", "/api/v1/accounts/"+account.String()+"/"+what, body).Body["id"].(string)
		return id
	}
	for i, account := range accounts {
		of(account, "deposits", `{"amount": "12.345678", "currency": "USDT", "reference": "=1+1",
			"description": "a \"quoted\" \\ line\r\nand, another; one"}`)
		of(account, "deposits", `{"amount": "7", "currency": "JPY"}`)
		of(account, "withdrawals", `{"amount": "0.000001", "currency": "USDT"}`)
		of(account, "withdrawals", `{"amount": "99999", "currency": "USDT"}`) // refused: there is no entry
		b.Post("/api/v1/transfers", map[string]any{"from_account_id": account, "to_account_id": accounts[1-i],
			"amount": "3.21", "currency": "RUB", "description": "-2+3"})
		of(account, "holds", `{"amount": "11", "currency": "RUB"}`) // stays open
		part := of(account, "holds", `{"amount": "10", "currency": "RUB"}`)
		b.Post("/api/v1/holds/"+part+"/capture", `{"amount": "4"}`)
		b.Post("/api/v1/holds/"+of(account, "holds", `{"amount": "9", "currency": "RUB"}`)+"/release", ``)

		paid := paymentstest.Order(account, "20.00")
		paid.Description, paid.Reference = "Order 17", "shop-17"
		b.Place(paid, contract.PaymentSucceeded)
		b.Step(paid, "refund", `{"amount": "5", "reason": "@broken"}`)
		b.Place(paymentstest.Order(account, "5000.00"), contract.PaymentFailed)
		b.Step(b.Held(account, "30.00"), "confirm", `{"amount": "12.5"}`)
		b.Step(b.Held(account, "31.00"), "reject", `{"reason": "no"}`)
		b.Held(account, "32.00") // stays authorized
		for _, o := range []contract.Order{b.Held(account, "33.00"), paid} {
			b.Produce(paymentstest.Cancelled(o, "changed my mind"))
			b.Until(1, `SELECT count(*) FROM payments WHERE order_id = $1 AND status = 'cancelled'`, o.OrderID)
		}
	}
	return accounts
}

// The union of a list's pages is its CSV, field by field.
func TestPagesAreTheCSV(t *testing.T) {
	b := setup(t, "all")
	accounts := everyFlow(b)
	of := "/api/v1/accounts/" + accounts[0].String()
	for _, path := range []string{
		"/api/v1/operations", "/api/v1/operations?status=error", "/api/v1/payments", "/api/v1/accounts",
		"/api/v1/payments?account_id=" + accounts[0].String(), of + "/holds", of + "/holds?status=open", of + "/operations",
		of + "/entries", "/api/v1/operations?to=2026-01-01T00:00:00Z",
	} {
		text, header := b.export(path, "text/csv")
		if got := header.Get("Content-Type"); got != "text/csv; charset=utf-8" {
			t.Errorf("%s is %s", path, got)
		}
		lines, err := csv.NewReader(strings.NewReader(text)).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		var want []map[string]string
		for _, item := range b.whole(path) {
			parts := []any{map[string]any{}}
			if list, ok := item["balances"].([]any); ok && len(list) > 0 {
				parts = list
			}
			delete(item, "balances")
			for _, part := range parts {
				fields := make(map[string]string)
				for _, of := range []map[string]any{item, part.(map[string]any)} {
					for name, value := range of {
						fields[name] = strings.ReplaceAll(fmt.Sprint(value), "\r\n", "\n") // as encoding/csv reads it
					}
				}
				want = append(want, fields)
			}
		}
		var got []map[string]string
		for _, line := range lines[1:] {
			fields := make(map[string]string)
			for i, cell := range line {
				if cell != "" {
					fields[lines[0][i]] = strings.TrimPrefix(cell, "'")
				}
			}
			got = append(got, fields)
		}
		for _, fields := range want {
			for name, value := range fields {
				if value == "" {
					delete(fields, name)
				}
			}
		}
		if !reflect.DeepEqual(got, want) || len(got) == 0 != strings.Contains(path, "to=") {
			t.Errorf("%s: %d lines of CSV, %d items; %s", path, len(got), len(want), text)
		}
	}
}

// reader reads a journal with a program and returns the sums, by account and currency.
type reader struct {
	name, needs string
	sums        func(t *testing.T, file string) map[string]map[string]string
}

const beancountSums = `
import json, sys
from collections import defaultdict
from beancount import loader
from beancount.core.data import Transaction
entries, errors, _ = loader.load_file(sys.argv[1])
sums = defaultdict(lambda: defaultdict(int))
for entry in entries:
    if isinstance(entry, Transaction):
        for p in entry.postings:
            sums[p.account][p.units.currency] += p.units.number
print(json.dumps([[str(e.message) for e in errors],
    {a: {c: format(n, "f") for c, n in of.items()} for a, of in sums.items()}]))
`

var readers = []reader{
	{"hledger", "apt-get install hledger", func(t *testing.T, file string) map[string]map[string]string {
		out, err := exec.CommandContext(t.Context(), "hledger", "-f", file, "register", "-O", "csv").Output()
		if err != nil {
			t.Fatalf("hledger cannot read it: %v %s", err, stderr(err))
		}
		lines, err := csv.NewReader(strings.NewReader(string(out))).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		sums := make(map[string]map[string]string)
		for _, line := range lines[1:] {
			amount, currency, _ := strings.Cut(line[5], " ")
			add(sums, line[4], currency, amount)
		}
		return sums
	}},
	{"beancount", "pip install beancount", func(t *testing.T, file string) map[string]map[string]string {
		out, err := exec.CommandContext(t.Context(), "python3", "-c", beancountSums, file).Output()
		if err != nil {
			t.Fatalf("beancount cannot read it: %v %s", err, stderr(err))
		}
		var errors []string
		sums := make(map[string]map[string]string)
		if err := json.Unmarshal(out, &[]any{&errors, &sums}); err != nil || len(errors) > 0 {
			t.Fatalf("beancount finds %v, %q", err, errors)
		}
		return sums
	}},
}

func (r reader) installed(t *testing.T) bool {
	if r.name == "hledger" {
		_, err := exec.LookPath("hledger")
		return err == nil
	}
	return exec.CommandContext(t.Context(), "python3", "-c", "import beancount").Run() == nil
}

func stderr(err error) string {
	if exit, ok := err.(*exec.ExitError); ok { //nolint:errorlint // it is what Output returns
		return string(exit.Stderr)
	}
	return ""
}

// add adds an amount to a sum, exactly.
func add(sums map[string]map[string]string, account, currency, amount string) {
	if sums[account] == nil {
		sums[account] = make(map[string]string)
	}
	total, _ := new(big.Rat).SetString(amount)
	if before, ok := new(big.Rat).SetString(sums[account][currency]); ok {
		total.Add(total, before)
	}
	sums[account][currency] = total.FloatString(18)
}

// equal compares two amounts, of which none is zero.
func equal(a, b string) bool {
	x, ok := new(big.Rat).SetString(a)
	y, same := new(big.Rat).SetString(b)
	if !ok {
		x = new(big.Rat)
	}
	if !same {
		y = new(big.Rat)
	}
	return x.Cmp(y) == 0
}

// hledger and beancount read the statements of several accounts together, find no fault, and agree with the balances
// to the last unit, also where a statement begins and ends somewhere.
func TestJournalsAreReadByOtherPrograms(t *testing.T) {
	b := setup(t, "all")
	accounts := everyFlow(b)
	var middle []string
	for _, item := range b.whole("/api/v1/accounts/" + accounts[0].String() + "/entries") {
		middle = append(middle, item["created_at"].(string))
	}
	at := middle[len(middle)/2]
	moment, err := time.Parse(time.RFC3339, at)
	if err != nil {
		t.Fatal(err)
	}
	before := moment.Add(-time.Microsecond).Format(time.RFC3339Nano)
	for _, query := range []string{"", "?from=" + at, "?to=" + at} {
		var texts strings.Builder
		for _, account := range accounts {
			text, header := b.export("/api/v1/accounts/"+account.String()+"/entries"+query, "text/x-ledger")
			if header.Get("Content-Type") != "text/x-ledger; charset=utf-8" {
				t.Errorf("it is %s", header)
			}
			texts.WriteString(text)
		}
		file := filepath.Join(t.TempDir(), "statement.journal")
		if err := os.WriteFile(file, []byte(texts.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, r := range readers {
			t.Run(r.name+query, func(t *testing.T) {
				if !r.installed(t) {
					t.Skipf("NOT CHECKED: there is no %s here; %s", r.name, r.needs)
				}
				sums := r.sums(t, file)
				all := make(map[string]map[string]string)
				for _, of := range sums {
					for currency, amount := range of {
						add(all, "all", currency, amount)
					}
				}
				for currency, total := range all["all"] {
					if !equal(total, "0") {
						t.Errorf("all together there are %s %s", total, currency)
					}
				}
				for _, account := range accounts {
					path := "/api/v1/accounts/" + account.String() + "/balance"
					if strings.HasPrefix(query, "?to=") { // before that time
						path += "?at=" + before
					}
					balances := b.Call("GET", path, nil).Body
					for kind, name := range map[string]string{"actual_balance": "Actual", "frozen_balance": "Frozen"} {
						want, got := balances[kind].(map[string]any), sums["Assets:Account-"+account.String()+":"+name]
						for currency, amount := range want {
							if !equal(fmt.Sprint(amount), got[currency]) {
								t.Errorf("%s of %s: %s has %s %s, not %s", name, account, r.name, got[currency], currency, amount)
							}
						}
						for currency, amount := range got {
							if _, ok := want[currency]; !ok && !equal(amount, "0") {
								t.Errorf("%s has %s %s", r.name, amount, currency)
							}
						}
					}
				}
			})
		}
	}
	if out := b.Call("GET", "/api/v1/accounts/"+accounts[0].String()+"/entries", nil, "Accept",
		"text/x-ledger; dialect=gnucash"); out.Status != 406 {
		t.Errorf("%d %v", out.Status, out.Body)
	}
	_, header := b.export("/api/v1/accounts/"+accounts[0].String()+"/entries", "text/x-ledger; dialect=beancount")
	if got := header.Get("Content-Type"); got != "text/x-ledger; dialect=beancount; charset=utf-8" {
		t.Errorf("it is %s", got)
	}
}
