package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/testkit/issuer"
	"github.com/altyn-pay/altyn/testkit/wait"
)

// TestAttacks sends 10,000 tokens that are not valid in messages of the broker, nine of ten in commands and the others
// in words about goods: each command is answered with 401, each word becomes a dead letter, nothing happens, and what
// comes behind them is done. No piece of a token is kept anywhere.
func TestAttacks(t *testing.T) {
	path := t.TempDir() + "/log"
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	b, from := setupTokens(t)
	attacks := from.Attacks(10_000)
	b.Program.Log = file
	_, stop := b.Start("all")
	wait.Until(t, "the keys are there", func() bool { return b.Call("GET", "/readyz", nil).Status == 200 })
	good := "Bearer " + from.Mint(issuer.Claims{"scope": issuer.Scopes}, nil, from.Key())
	account := uuid.MustParse(b.Post("/api/v1/accounts", "{}", "Authorization", good).Body["id"].(string))
	b.Post("/api/v1/accounts/"+account.String()+"/deposits", `{"amount": "100", "currency": "RUB"}`, "Authorization", good)
	operations := len(b.rows("operations"))

	sent := make(map[uuid.UUID]issuer.Attack)
	words := 0
	var messages []kafka.Message
	kinds := contract.Operations()
	for i, attack := range attacks {
		var m kafka.Message
		if i%10 == 9 {
			words++
			m = goods(uuid.New(), contract.InventoryCompleted)
		} else {
			id := uuid.New()
			sent[id] = attack
			m = command(id, fmt.Sprintf(`"operation": %q, "account_id": %q, "amount": "1.00", "currency": "RUB"`,
				kinds[i%len(kinds)], account), kafka.Header{Key: contract.ReplyToHeader, Value: []byte("billing.replies.default")})
		}
		m.Key = account[:] // all are ahead of what follows
		messages = append(messages, with(m, attack.Values...))
	}
	last, order := uuid.New(), uuid.New()
	behind := []kafka.Message{
		with(command(last, fmt.Sprintf(`"operation": "deposit", "account_id": %q, "amount": "1.00", "currency": "RUB"`,
			account)), good),
		with(goods(order, contract.InventoryCompleted), good),
	}
	for _, m := range behind {
		m.Key = account[:]
		messages = append(messages, m)
	}
	for some := range slices.Chunk(messages, 500) {
		b.Produce(some...)
	}
	b.Until(1, `SELECT count(*) FROM inventory WHERE order_id = $1`, order)
	b.Until(1, `SELECT count(*) FROM operations WHERE command_id = $1 AND status = 'success'`, last)

	kept := newPieces(attacks)
	replies := b.Consume(contract.TopicReplies, func(m []kafka.Message) bool { return len(m) > len(sent) })
	for _, m := range replies {
		kept.search(t, contract.TopicReplies, m)
		var r contract.Reply
		if err := json.Unmarshal(m.Value, &r); err != nil || r.CommandID == nil {
			t.Fatal(err, string(m.Value))
		}
		attack, ok := sent[*r.CommandID]
		if delete(sent, *r.CommandID); ok && (r.Code != 401 || r.Reason != "unauthenticated" || r.Body != nil) ||
			!ok && *r.CommandID != last {
			t.Errorf("%s is answered with %s: %.300q", attack.Name, m.Value, attack.Values)
		}
	}
	if len(sent) > 0 || len(replies) != len(attacks)-words+1 {
		t.Errorf("%d attacks have no answer, of %d answers", len(sent), len(replies))
	}
	dead := b.Consume(contract.DeadLetter(contract.TopicInventory),
		func(m []kafka.Message) bool { return len(m) >= words })
	for _, m := range dead {
		kept.search(t, m.Topic, m)
		if m.Header("dlq_reason") == "" || len(m.Authorization) > 0 {
			t.Errorf("a dead letter has the headers %v", m.Headers)
		}
	}
	if after := len(b.rows("operations")); len(dead) != words || after != operations+1 {
		t.Errorf("%d dead letters of %d, %d operations after %d", len(dead), words, after, operations)
	}
	b.Until(1, `SELECT count(*) FROM balances WHERE account_id = $1 AND actual = 10100`, account)
	for _, table := range b.tables() {
		for _, row := range b.rows(table) {
			kept.find(t, table, []byte(row))
		}
	}
	stop()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	kept.find(t, "the log", text)
	if !bytes.Contains(text, []byte("\n")) {
		t.Error("nothing is logged")
	}
}

// pieceSize is such that whatever has twice as many characters of a token in a row has one of its pieces.
const pieceSize = 20

// pieces are those of all tokens.
type pieces map[string]bool

func newPieces(attacks []issuer.Attack) pieces {
	all := pieces{}
	for _, attack := range attacks {
		for _, value := range attack.Values {
			for i := 0; i+pieceSize <= len(value); i += pieceSize {
				piece := value[i : i+pieceSize]
				if strings.Trim(piece, piece[:1]) != "" { // not one character again and again, as anything may have
					all[piece] = true
				}
			}
		}
	}
	return all
}

func (p pieces) search(t *testing.T, where string, m kafka.Message) {
	t.Helper()
	p.find(t, where, m.Key)
	p.find(t, where, m.Value)
	for _, h := range m.Headers {
		p.find(t, where, h.Value)
	}
}

func (p pieces) find(t *testing.T, where string, text []byte) {
	t.Helper()
	for i := 0; i+pieceSize <= len(text); i++ {
		if p[string(text[i:i+pieceSize])] {
			t.Errorf("%s has a piece of a token: %q in %.300q", where, text[i:i+pieceSize], text[max(0, i-100):])
			return
		}
	}
}
