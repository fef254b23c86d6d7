package postgres

import (
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/inbox"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// What a batch has stored is what the reads find, and what the next batch loads.
func TestWhatIsStoredIsRead(t *testing.T) {
	b := setup(t)
	alice, bob, order, waiting := uuid.New(), uuid.New(), uuid.New(), uuid.New()
	requests := []ledger.Request{
		b.request(alice, ledger.CreateAccount{Owner: "Alice", Reference: "a"}),
		b.request(bob, ledger.CreateAccount{Owner: "Bob"}),
		b.request(alice, ledger.Deposit{Currency: "RUB", Amount: 100, Reference: "r", Description: "d"}),
		b.request(alice, ledger.Transfer{Currency: "RUB", Amount: 30, ToAccountID: bob}),
		b.request(alice, ledger.Payment{OrderID: order, Currency: "RUB", Amount: 50, Capture: contract.CaptureManual}),
		b.request(bob, ledger.Payment{OrderID: waiting, Currency: "RUB", Amount: 90, Capture: contract.CaptureAutomatic,
			WaitForFunds: true}),
		b.request(bob, ledger.Withdrawal{Currency: "RUB", Amount: 1}), // waits behind it
	}
	requests[2].CommandID, requests[2].Fingerprint = uuid.New(), uuid.NullUUID{UUID: uuid.New(), Valid: true}
	requests[6].Traceparent, requests[6].Reply = "00-1-2-01", json.RawMessage(`{"topic":"t"}`)
	settled := b.settle(requests...)
	b.reads(requests, settled)
	if accounts, _, err := b.Accounts(t.Context(), identity.Default, AccountFilter{}, pg.NewestFirst, 10); err != nil ||
		len(accounts) != 2 ||
		accounts[0].ID != bob ||
		accounts[1].Owner != "Alice" || accounts[1].Reference != "a" {
		t.Errorf("accounts %+v, %v", accounts, err)
	}
	accounts, _, err := b.Accounts(t.Context(), identity.Default, AccountFilter{Owner: "Bob"}, pg.NewestFirst, 10)
	if err != nil || len(accounts) != 1 || accounts[0].ID != bob {
		t.Errorf("accounts of Bob %+v, %v", accounts, err)
	}
	hold, err := b.Hold(t.Context(), identity.Default, order)
	if want := (ledger.Hold{
		ID: order, Lane: contract.Lane(alice), AccountID: alice, Currency: "RUB", Amount: 50, Status: ledger.Open,
		OrderID:   order,
		ExpiresAt: hold.ExpiresAt, CreatedAt: settled[4].SettledAt,
	}); err != nil || hold != want || hold.ExpiresAt != requests[4].ReceivedAt.Add(ledger.HoldExpiry) {
		t.Errorf("hold %+v, %v, want %+v", hold, err, want)
	}
	b.has(alice, "RUB", 20, 50)
	b.has(bob, "RUB", 30, 0)

	// The order is confirmed in part, and money comes for what waits; both are served in their order.
	later := []ledger.Request{
		b.request(alice, ledger.Confirm{OrderID: order, Amount: 40}),
		b.request(bob, ledger.Deposit{Currency: "RUB", Amount: 61}),
		b.request(bob, ledger.Resume{Currency: "RUB"}),
	}
	operations := b.settle(later...)
	b.reads(later[:2], operations[:2])
	if n := b.count(`SELECT count(*) FROM waits`); n != 0 {
		t.Errorf("%d still wait", n)
	}
	b.has(alice, "RUB", 30, 0)
	b.has(bob, "RUB", 0, 0)
	for id, want := range map[uuid.UUID]string{order: contract.PaymentSucceeded, waiting: contract.PaymentSucceeded} {
		if p, err := b.Payment(t.Context(), identity.Default, id); err != nil || p.Status != want || p.Version != 2 {
			t.Errorf("payment %+v, %v", p, err)
		}
	}
	of := Account{Account: ledger.Account{ID: bob}}
	span, err := b.Span(t.Context(), of, nil, nil, nil)
	b.must(err)
	entries, err := b.Entries(t.Context(), of, span, 10)
	b.must(err)
	if e := entries[2]; e.OrderID != waiting || entries[0].OrderID != uuid.Nil {
		t.Errorf("of the payment's order: %+v", e)
	}
	var amounts []int64
	for _, e := range entries {
		amounts = append(amounts, e.Amount)
	}
	if want := []int64{30, 61, -90, -1}; !slices.Equal(amounts, want) {
		t.Errorf("the statement has %v, want %v", amounts, want)
	}
	// The same again changes nothing, and finds its operations.
	again := b.settle(append(requests, later[:2]...)...)
	b.reads(append(requests, later[:2]...), again)
	b.has(bob, "RUB", 0, 0)
}

// reads expects the operations of requests in the database as they are.
func (b *bundle) reads(requests []ledger.Request, want []*ledger.Operation) {
	b.Helper()
	ids := make([]uuid.UUID, len(requests))
	for i, r := range requests {
		ids[i] = r.ID
	}
	got, err := b.Settled(b.Context(), ids)
	b.must(err)
	for i, id := range ids {
		if got[id] == nil || *got[id] != *want[i] {
			b.Errorf("%s is stored as %+v\nwant %+v", requests[i].Kind(), got[id], want[i])
		}
	}
}

// has expects what an account has of a currency.
func (b *bundle) has(account uuid.UUID, currency string, actual, frozen int64) {
	b.Helper()
	got, err := b.Account(b.Context(), identity.Default, account)
	b.must(err)
	if want := []Balance{{
		Key: ledger.Key{AccountID: account, Currency: currency}, Balance: ledger.Balance{Actual: actual, Frozen: frozen},
	}}; !slices.Equal(got.Balances, want) {
		b.Errorf("the account has %+v, want %+v", got.Balances, want)
	}
}

func TestWhatIsNotThere(t *testing.T) {
	b := setup(t)
	nobody := uuid.New()
	for name, read := range map[string]func() error{
		"account": func() error { _, err := b.Account(t.Context(), identity.Default, nobody); return err },
		"hold":    func() error { _, err := b.Hold(t.Context(), identity.Default, nobody); return err },
		"payment": func() error { _, err := b.Payment(t.Context(), identity.Default, nobody); return err },
		"payer":   func() error { _, _, err := b.PayerOf(t.Context(), identity.Default, nobody); return err },
		"message": func() error { _, err := b.Waiting(t.Context(), identity.Default, nobody); return err },
	} {
		if err := read(); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Commands find the holds and operations that they name wherever these are: in the inbox, waiting or settled.
func TestWhatCommandsNameIsFound(t *testing.T) {
	b := setup(t)
	account, other, order := uuid.New(), uuid.New(), uuid.New()
	held := b.request(account, ledger.HoldFunds{Currency: "RUB", Amount: 1})
	behind := b.request(account, ledger.HoldFunds{Currency: "USDT", Amount: 2})
	queued := b.request(other, ledger.HoldFunds{Currency: "EUR", Amount: 3})
	discarded := b.request(other, ledger.Deposit{Currency: "RUB", Amount: 1})
	cancelled := b.request(account, ledger.CancelOperation{OperationID: behind.ID})
	b.settle(b.request(account, ledger.CreateAccount{}), b.request(account, ledger.Deposit{Currency: "RUB", Amount: 1}),
		held,
		b.request(account, ledger.Withdrawal{Currency: "USDT", Amount: 1, WaitForFunds: true}), behind)
	b.accept(queued, discarded, cancelled, b.request(other, ledger.Payment{OrderID: order, Currency: "EUR", Amount: 4}))
	b.exec(`UPDATE inbox SET kind = 'discarded', payload = '{"kind": "' || kind || '", "payload": ' || payload || '}'
		WHERE id = $1`, discarded.ID)

	var commands []contract.Command
	for _, id := range []uuid.UUID{held.ID, behind.ID, queued.ID, discarded.ID, cancelled.ID, uuid.New()} {
		commands = append(commands, contract.Command{HoldID: &id, OperationID: &id})
	}
	named, err := b.Named(t.Context(), commands...)
	if err != nil {
		t.Fatal(err)
	}
	if want := map[uuid.UUID]NamedRecord{held.ID: {held.ID, "default", "", account, "RUB"},
		behind.ID: {behind.ID, "default", "", account, "USDT"},
		queued.ID: {queued.ID, "default", "", other, "EUR"}}; !maps.Equal(named.Holds, want) {
		t.Errorf("holds %v, want %v", named.Holds, want)
	}
	if want := map[uuid.UUID]NamedRecord{held.ID: {held.ID, "default", "", account, ""},
		behind.ID: {behind.ID, "default", "", account, ""}, queued.ID: {queued.ID, "default", "", other, ""},
		discarded.ID: {discarded.ID, "default", "", other, ""}}; !maps.Equal(named.Operations, want) {
		t.Errorf("operations %v, want %v", named.Operations, want)
	}
	payer, currency, err := b.PayerOf(t.Context(), identity.Default, order)
	if payer != other || currency != "EUR" || err != nil {
		t.Errorf("the order is paid by %s in %s, %v", payer, currency, err)
	}
}

// A request is found by its ID with the fingerprint of what was accepted.
func TestWhatWasAcceptedIsFound(t *testing.T) {
	b := setup(t)
	account, fingerprint := uuid.New(), uuid.NullUUID{UUID: uuid.New(), Valid: true}
	settled, queued := b.request(account, ledger.CreateAccount{}),
		b.request(account, ledger.Deposit{Currency: "RUB", Amount: 1})
	settled.Fingerprint = fingerprint
	b.settle(settled)
	b.accept(queued)
	got, err := b.Accepted(t.Context(), []uuid.UUID{settled.ID, queued.ID, uuid.New()})
	if want := map[uuid.UUID]uuid.UUID{settled.ID: fingerprint.UUID, queued.ID: uuid.Nil}; err != nil ||
		!maps.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
}

// What is in the inbox is read as it was accepted. What cannot be read fails, or goes without a trace once it is
// discarded.
func TestMessagesAreReadAsTheyWereAccepted(t *testing.T) {
	t.Parallel()
	account := uuid.New()
	request := ledger.Request{
		ID: uuid.New(), Lane: contract.Lane(account), AccountID: account, CommandID: uuid.New(), Traceparent: "00-1-2-01",
		Fingerprint: uuid.NullUUID{UUID: uuid.New(), Valid: true}, Reply: json.RawMessage(`{"topic":"t"}`),
		Command: ledger.Withdrawal{Currency: "RUB", Amount: 7},
	}
	m := message(request)
	repeated := m
	repeated.ID, repeated.Kind = uuid.New(), Repetition
	for _, m := range []Message{m, repeated} {
		text, err := codec{}.Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		got, err := codec{}.Decode(inbox.Stored{
			ID: m.ID, Lane: m.Lane, AccountID: m.AccountID, Kind: m.Kind, Body: text, Fingerprint: m.Fingerprint,
			Traceparent: m.Traceparent,
		})
		if err != nil || !reflect.DeepEqual(*got, request) {
			t.Errorf("%s is read as %+v, %v\nwant %+v", text, got, err, request)
		}
	}
	for _, bad := range []inbox.Stored{
		{Kind: "withdraw", Body: `{"amount": "7"}`}, {Kind: Repetition, Body: `[]`},
		{Kind: Unreadable, Body: `{"reason": "not an order"}`}, {Kind: Unreadable, Body: `7`},
	} {
		bad.ID, bad.AccountID = uuid.New(), account
		if got, err := (codec{}).Decode(bad); err == nil || bad.Body == `{"reason": "not an order"}` &&
			err.Error() != "not an order" {
			t.Errorf("%s %s is read as %+v, %v", bad.Kind, bad.Body, got, err)
		}
		bad.Discarded = true
		if bad.Kind == Repetition {
			continue // one is never given up by itself
		}
		got, err := codec{}.Decode(bad)
		if err != nil || got.Kind() != ledger.KindRefusal || got.ID != bad.ID || got.AccountID != account || !got.Discarded {
			t.Errorf("%s %s, discarded, is read as %+v, %v", bad.Kind, bad.Body, got, err)
		}
	}
	// What a later version has stored is for it to read, or to give up.
	for _, newer := range []inbox.Stored{{Kind: "dance", Body: `{}`}, {Kind: "dance", Body: `{}`, Discarded: true},
		{Kind: Repetition, Body: `{"kind": "dance", "payload": {}}`}, {Kind: Kept, Body: `{}`}} {
		if got, err := (codec{}).Decode(newer); !errors.Is(err, inbox.ErrUnknown) {
			t.Errorf("%s %s is read as %+v, %v", newer.Kind, newer.Body, got, err)
		}
	}
}
