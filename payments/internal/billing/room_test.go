package billing_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
)

// In a currency of 18 digits an int64 ends at nine units. That bounds what a client has and what one operation moves,
// but not what all clients of a lane have together, nor what was ever earned from them.
func TestOneClientsMoneyIsNotInAnothersWay(t *testing.T) {
	b := setup(t)
	b.Settings.Currencies = filepath.Join(t.TempDir(), "coins.csv")
	if err := os.WriteFile(b.Settings.Currencies, []byte("WEI,18\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.URL, _ = b.Start("all")
	lane := contract.Lane(uuid.New())
	money := func(amount string) map[string]any { return map[string]any{"amount": amount, "currency": "WEI"} }
	for range 6 {
		account := uuid.New()
		for contract.Lane(account) != lane {
			account = uuid.New()
		}
		path := "/api/v1/accounts/" + account.String()
		b.Post("/api/v1/accounts", map[string]any{"id": account})
		b.Post(path+"/deposits", money("4.5"))
		b.Expect(b.Call("POST", path+"/deposits", money("4.5")), 422, "code", "balance_too_large")
		b.Expect(b.Call("POST", path+"/deposits", money("4.7")), 422, "code", "balance_too_large")
		hold := b.Post(path+"/holds", money("4"))
		b.Post("/api/v1/holds/"+hold.Body["id"].(string)+"/capture", nil)
		b.Post(path+"/deposits", money("4"))
		b.Post(path+"/withdrawals", money("0.5"))
	}
	for what, query := range map[string]string{
		"what was earned": `SELECT coalesce(sum(actual), 0) = 24e18
			FROM balances WHERE account_id::text LIKE '00000000-0000-%02-%' OR account_id::text LIKE '%0002'`,
		"the sum":    `SELECT sum(actual + frozen) = 0 FROM balances`,
		"the vaults": `SELECT count(*) > 5 FROM balances WHERE account_id::text LIKE '00000000-0000-80%' AND entries = 1`,
		"their operations": `SELECT count(*) FROM (SELECT FROM entries GROUP BY operation_id
			HAVING sum(amount + frozen) <> 0) e`,
		"the clients' sums": `SELECT sum(actual) = 24e18 FROM balances WHERE account_id IN (SELECT id FROM accounts)`,
	} {
		var right string
		if err := b.Owner.Get(&right, query); err != nil || right != "true" && right != "0" {
			t.Errorf("%s: %s, %v", what, right, err)
		}
	}
}
