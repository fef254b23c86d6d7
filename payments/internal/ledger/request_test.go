package ledger_test

import (
	"bufio"
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/identity"
)

// Requests are in flight, and fingerprints are stored, for as long as anybody likes: the JSON and the digest of each
// command are what the version wrote that testdata/requests.jsonl is from.
func TestTheStoredFormOfRequestsStays(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 678_900_000, time.UTC)
	reply := json.RawMessage(`{"topic":"billing.replies.a\u0026b",` +
		`"command_id":"751af8b4-32a7-55bc-9fad-8bfbcbbf4237","operation":"withdraw"}`)
	refused := json.RawMessage(`{"topic":"billing.replies","command_id":"00000000-0000-0000-0000-000000000000",` +
		`"operation":"dance","code":400,"reason":"validation_failed","detail":"operation must be one of a, b"}`)
	requests := []ledger.Request{
		{Command: ledger.CreateAccount{}},
		{Command: ledger.CreateAccount{Owner: "Ann <ann@example.org> & Söhne", Reference: "r"}},
		{Command: ledger.Deposit{Currency: "RUB", Amount: 7}},
		{Command: ledger.Deposit{Currency: "RUB", Amount: 7, Reference: "r", Description: "d"}, CommandID: id(9)},
		{Command: ledger.Withdrawal{Currency: "RUB", Amount: 7}},
		{Command: ledger.Withdrawal{Currency: "RUB", Amount: 7, ExpiresIn: time.Minute, Reference: "r", Description: "d",
			WaitForFunds: true}, Reply: reply},
		{Command: ledger.Transfer{Currency: "RUB", Amount: 7, ToAccountID: id(2)}},
		{Command: ledger.Transfer{Currency: "RUB", Amount: 7, ToAccountID: id(2), Reference: "r", Description: "d"}},
		{Command: ledger.HoldFunds{Currency: "RUB", Amount: 7}},
		{Command: ledger.HoldFunds{Currency: "RUB", Amount: 7, ExpiresIn: time.Hour, Reference: "r", Description: "d"}},
		{Command: ledger.Capture{HoldID: id(3)}},
		{Command: ledger.Capture{HoldID: id(3), Currency: "RUB", Amount: 5, Reference: "r", Description: "d"}},
		{Command: ledger.Release{HoldID: id(3)}},
		{Command: ledger.Release{HoldID: id(3), Reference: "r", Description: "d"}},
		{Command: ledger.Payment{Currency: "RUB", Amount: 7, OrderID: id(4), Capture: "automatic"}},
		{Command: ledger.Payment{Currency: "RUB", Amount: 7, OrderID: id(4), Capture: "manual", Reference: "r",
			Description: "d", AwaitInventory: true,
			WaitForFunds: true, AcceptedAt: at, ExpiresAt: at.Add(time.Hour), Refused: ledger.CurrencyMismatch, Repeated: true}},
		{Command: ledger.Confirm{OrderID: id(4)}},
		{Command: ledger.Confirm{OrderID: id(4), Amount: 5}},
		{Command: ledger.Reject{OrderID: id(4)}},
		{Command: ledger.Reject{OrderID: id(4), Note: "n"}},
		{Command: ledger.Refund{OrderID: id(4)}},
		{Command: ledger.Refund{OrderID: id(4), Amount: 5, Note: "n"}},
		{Command: ledger.Cancel{OrderID: id(4), Currency: "RUB", Amount: 7, Capture: "automatic"}},
		{Command: ledger.Cancel{OrderID: id(4), Currency: "RUB", Amount: 7, Capture: "manual", Reference: "r",
			Description: "d", Note: "n",
			Refused: ledger.CurrencyMismatch, Repeated: true}},
		{Command: ledger.Inventory{OrderID: id(4)}},
		{Command: ledger.Inventory{OrderID: id(4), InStock: true}},
		{Command: ledger.Expire{HoldID: id(3)}},
		{Command: ledger.Expire{WaitID: id(5)}},
		{Command: ledger.Resume{Currency: "RUB"}},
		{Command: ledger.CancelOperation{OperationID: id(6)}},
		{Command: ledger.CancelOperation{OperationID: id(6), Note: "n"}, Reply: reply},
		{Command: ledger.BalanceQuery{}, Reply: reply},
		{Command: ledger.Refusal{}},
		{Command: ledger.Refusal{}, Reply: refused},
	}
	file, err := os.Open("testdata/requests.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines, kinds, n := bufio.NewScanner(file), map[ledger.Kind]bool{}, 0
	for ; lines.Scan(); n++ {
		var want struct {
			ID          uuid.UUID       `json:"id"`
			Kind        ledger.Kind     `json:"kind"`
			Fingerprint uuid.UUID       `json:"fingerprint"`
			Payload     json.RawMessage `json:"payload"`
		}
		if err := json.Unmarshal(lines.Bytes(), &want); err != nil {
			t.Fatal(err)
		}
		r := requests[n]
		r.ID = want.ID
		kinds[want.Kind] = true
		if got, err := json.Marshal(r); err != nil || string(got) != string(want.Payload) || r.Kind() != want.Kind {
			t.Errorf("%s is stored as %s, %v\nwant %s", r.Kind(), got, err, want.Payload)
		}
		if got, err := r.Digest(); err != nil || got != want.Fingerprint {
			t.Errorf("%s has the digest %s, %v, want %s", want.Payload, got, err, want.Fingerprint)
		}
		// The version before had the ID of a command over the broker in its reply only.
		if reflect.DeepEqual(r.Reply, reply) {
			r.CommandID = id(9)
		}
		read := ledger.Request{ID: want.ID}
		if err := read.Decode(want.Kind, want.Payload); err != nil || !reflect.DeepEqual(read, r) {
			t.Errorf("%s is read as %+v, %v\nwant %+v", want.Payload, read, err, r)
		}
		again, err := json.Marshal(read)
		if err != nil {
			t.Fatal(err)
		}
		repeated := ledger.Request{ID: want.ID}
		if err := repeated.Decode(want.Kind, again); err != nil || !reflect.DeepEqual(repeated, r) {
			t.Errorf("%s is read as %+v, %v\nwant %+v", again, repeated, err, r)
		}
	}
	if err := lines.Err(); err != nil || n != len(requests) {
		t.Fatalf("%d lines, %v", n, err)
	}
	for _, kind := range slices.Concat(ledger.Operations(), []ledger.Kind{
		ledger.KindCancel, ledger.KindInventory, ledger.KindExpire, ledger.KindResume, ledger.KindCancelOperation,
		ledger.KindBalanceQuery, ledger.KindRefusal,
	}) {
		if !kinds[kind] {
			t.Errorf("there is no line of %s", kind)
		}
	}
}

// Who asks is stored with the request, but for the default tenant without restriction.
func TestWhoAsksIsStored(t *testing.T) {
	t.Parallel()
	deposit := ledger.Deposit{Currency: "RUB", Amount: 7}
	for text, r := range map[string]ledger.Request{
		`{"currency":"RUB","amount":7}`: {Command: deposit, By: identity.Default},
		`{"currency":"RUB","amount":7,"by":{"tenant":"shop","owner":"alice"}}`: {
			Command: deposit, By: identity.Reach{Tenant: "shop", Owner: "alice"}},
		`{"by":{"owner":"alice"},"reply":{"topic":"t"}}`: {
			Command: ledger.BalanceQuery{}, By: identity.Reach{Owner: "alice"}, Reply: json.RawMessage(`{"topic":"t"}`)},
		`{"currency":"RUB","amount":7,"subject":"alice"}`: {Command: deposit, Subject: "alice"},
		`{"currency":"RUB","amount":7,"key":"k"}`:         {Command: deposit, Key: "k"},
	} {
		got, err := json.Marshal(r)
		if err != nil || string(got) != text {
			t.Errorf("stored as %s, %v\nwant %s", got, err, text)
		}
		var read ledger.Request
		if err := read.Decode(r.Kind(), []byte(text)); err != nil || read.By.Normal() != r.By.Normal() ||
			read.Subject != r.Subject || read.Key != r.Key {
			t.Errorf("%s is read as %+v, %v", text, read, err)
		}
	}
}

func TestWhatCannotBeDecoded(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		kind    ledger.Kind
		payload string
	}{
		{"dance", `{}`}, {ledger.KindDeposit, `[]`}, {ledger.KindDeposit, `{"amount":"7"}`},
		{ledger.KindDeposit, `{"command_id":7}`},
	} {
		var r ledger.Request
		if err := r.Decode(test.kind, []byte(test.payload)); err == nil {
			t.Errorf("%s %s is read as %+v", test.kind, test.payload, r)
		}
	}
}
