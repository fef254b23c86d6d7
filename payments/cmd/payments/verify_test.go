package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
)

// What the service writes is in the chain, whose head is on its topic. The exit code says whether it is all there
// still, and the output which row is not.
func TestVerify(t *testing.T) {
	b := setup(t, "all")
	account := b.Account("7.00")
	b.Until(0, `SELECT count(*) FROM chain_unlinked`)
	published := b.Broker.Messages(t, contract.TopicHeads, func(m []kafka.Message) bool { return len(m) > 0 })
	heads := filepath.Join(t.TempDir(), "heads.json")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(heads, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(string(published[0].Value) + "\n")
	run := func(code int, words ...string) {
		t.Helper()
		var out strings.Builder
		err := verify(t.Context(), &out, Verify{Heads: heads, Sealings: 1, Database: b.database()})
		status := interface{ ExitStatus() int }(nil)
		if err != nil {
			if !errors.As(err, &status) {
				t.Fatal(err)
			}
			got := status.ExitStatus()
			if got != code {
				t.Errorf("exit code %d, want %d: %v", got, code, err)
			}
			out.WriteString(err.Error())
		} else if code != 0 {
			t.Errorf("exit code 0, want %d", code)
		}
		for _, word := range words {
			if !strings.Contains(out.String(), word) {
				t.Errorf("the output has no %q:\n%s", word, &out)
			}
		}
	}
	run(0, "everything is as it was written", "compared with the head 1 of ")

	edit := func(statement string) {
		t.Helper()
		if _, err := b.Owner.Exec(statement, account); err != nil {
			t.Fatal(err)
		}
	}
	edit(`UPDATE operations SET amount = amount + 1 WHERE account_id = $1 AND operation = 'deposit'`)
	run(1, "first difference: operations ", " is not as it was written (link ", "1 differences")
	edit(`UPDATE operations SET amount = amount - 1 WHERE account_id = $1 AND operation = 'deposit'`)
	run(0)
	edit(`DELETE FROM entries WHERE account_id = $1`)
	run(1, "first difference: entries of operation ", " is missing (link ", "unless --archive names it\n")

	var head contract.LedgerHead
	if err := json.Unmarshal(published[0].Value, &head); err != nil {
		t.Fatal(err)
	}
	head.Hash = strings.Repeat("0", len(head.Hash))
	text, err := json.Marshal(head)
	if err != nil {
		t.Fatal(err)
	}
	write(string(text))
	run(1, "first difference: chain 1 has another hash than the one that was published")
	for _, bad := range []string{"", "{", `{"number": 0}`} {
		write(bad)
		run(2, "heads.json")
	}
	write(string(published[0].Value))
	b.Settings.Postgres.Port = 1
	run(2)
}
