package postgres

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"

	"github.com/altyn-pay/altyn/payments/internal/chain"
	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/outbox"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

// verified compares the database with its chain.
func (b *bundle) verified(v Verifying) Verification {
	b.Helper()
	result, err := b.Verify(b.Context(), v)
	b.must(err)
	return result
}

// intact expects that the database is what its chain says.
func (b *bundle) intact() Verification {
	b.Helper()
	result := b.verified(Verifying{Sealings: 1})
	for _, d := range result.Differences {
		b.Errorf("%s %s %s (link %d)", d.Table, d.ID, d.What, d.Link)
	}
	if result.Items == 0 {
		b.Error("the chain is empty")
	}
	return result
}

// link makes links of all batches.
func (b *bundle) link() {
	b.Helper()
	for n := -1; n != 0; {
		var err error
		n, _, err = b.Link(b.Context(), 0, func(contract.LedgerHead) (outbox.Message, error) {
			return outbox.Message{Topic: contract.TopicHeads, ID: uuid.New(), Payload: "{}"}, nil
		})
		b.must(err)
	}
}

// everything has rows of all kinds in all of their states written.
func (b *bundle) everything() (accounts []uuid.UUID) {
	b.Helper()
	for range 4 {
		accounts = append(accounts, uuid.New())
	}
	var first []ledger.Request
	for _, a := range accounts {
		first = append(first, b.request(a, ledger.CreateAccount{Owner: "somebody", Reference: "r"}),
			b.request(a, ledger.Deposit{Currency: "RUB", Amount: 10_000, Reference: "r", Description: "d"}))
	}
	b.settle(first...)
	pay := func(account uuid.UUID, amount int64, capture string, change func(*ledger.Payment)) ledger.Request {
		p := ledger.Payment{OrderID: uuid.New(), Currency: "RUB", Amount: amount, Capture: capture, Description: "d"}
		if change != nil {
			change(&p)
		}
		return b.request(account, p)
	}
	for round, a := range accounts {
		other := accounts[(round+1)%len(accounts)]
		hold, released := b.request(a, ledger.HoldFunds{Currency: "RUB", Amount: 70}),
			b.request(a, ledger.HoldFunds{Currency: "RUB", Amount: 30})
		authorized, confirmed, rejected := pay(a, 20, contract.CaptureManual, nil), pay(a, 21, contract.CaptureManual, nil),
			pay(a, 22, contract.CaptureManual, nil)
		refunded, failed := pay(a, 15, contract.CaptureAutomatic, nil), pay(a, 1e9, contract.CaptureAutomatic, nil)
		goods := pay(a, 16, contract.CaptureAutomatic, func(p *ledger.Payment) { p.AwaitInventory = true })
		b.settle(hold, released, authorized, confirmed, rejected, refunded, failed, goods,
			b.request(a, ledger.HoldFunds{Currency: "RUB", Amount: 5}),
			b.request(a, ledger.Transfer{ToAccountID: other, Currency: "RUB", Amount: 11}),
			b.request(a, ledger.Withdrawal{Currency: "RUB", Amount: 12}),
			b.request(a, ledger.Withdrawal{Currency: "RUB", Amount: 1e9}))
		b.settle(b.request(a, ledger.Capture{HoldID: hold.ID, Currency: "RUB", Amount: 50}),
			b.request(a, ledger.Release{HoldID: released.ID}),
			b.request(a, ledger.Confirm{OrderID: confirmed.ID}), b.request(a, ledger.Reject{OrderID: rejected.ID}),
			b.request(a, ledger.Refund{OrderID: refunded.ID, Amount: 5}))
		b.settle(b.request(a, ledger.Refund{OrderID: refunded.ID, Amount: 10}),
			b.request(a, ledger.Inventory{OrderID: goods.ID, InStock: true}))
		if round%2 == 0 {
			b.link()
		}
		// One after another waits for money; the first of them gets it.
		waiting := b.request(a, ledger.Withdrawal{Currency: "USDT", Amount: 3, WaitForFunds: true})
		behind := b.request(a, ledger.HoldFunds{Currency: "USDT", Amount: 4})
		last := b.request(a, ledger.Withdrawal{Currency: "USDT", Amount: 5, WaitForFunds: true})
		b.settle(waiting, behind, last)
		if round%2 == 0 {
			b.settle(b.request(a, ledger.CancelOperation{OperationID: last.ID, Note: "n"}))
		}
		b.settle(b.request(a, ledger.Deposit{Currency: "USDT", Amount: 3}), b.request(a, ledger.Resume{Currency: "USDT"}))
	}
	return accounts
}

// Every row is in the chain as it was written last, whether it is linked yet or not.
func TestWhatIsWrittenIsChained(t *testing.T) {
	b := setup(t)
	b.everything()
	before := b.intact()
	if before.Links == 0 || b.count(`SELECT count(*) FROM chain_unlinked`) == 0 {
		t.Errorf("%+v", before)
	}
	b.link()
	after := b.intact()
	if n := b.count(`SELECT count(*) FROM chain_unlinked`); n != 0 || after.Items != before.Items ||
		after.Links <= before.Links || after.Rows != before.Rows {
		t.Errorf("%d are not linked; %+v, before %+v", n, after, before)
	}
	for _, state := range []string{
		`operations WHERE status = 'created'`, `operations WHERE status = 'error'`, `holds WHERE status = 'open'`,
		`holds WHERE status = 'captured'`, `holds WHERE status = 'released'`, `payments WHERE status = 'authorized'`,
		`payments WHERE status = 'refunded' AND version = 3`, `payments WHERE status = 'failed'`, `waits`,
	} {
		if b.count(`SELECT count(*) FROM `+state) == 0 {
			t.Errorf("there are no %s", state)
		}
	}
}

// Rows that the service before has written are found to be in no link, until they are sealed. Then they are covered
// too, also those that have changed since. A second sealing is one too many.
func TestOlderRowsAreSealed(t *testing.T) {
	b := setup(t)
	accounts := b.everything()
	b.exec(`DELETE FROM chain`)
	b.exec(`DELETE FROM chain_unlinked`)
	b.exec(`DELETE FROM chain_heads`)
	rows := b.count(`SELECT (SELECT count(*) FROM accounts) + (SELECT count(*) FROM entries) + (SELECT count(*) FROM holds)
		+ (SELECT count(*) FROM operations) + (SELECT count(*) FROM payments)`)
	if found := b.verified(Verifying{Sealings: 1}); len(found.Differences) < rows {
		t.Errorf("%d rows are in no link: %d differences", rows, len(found.Differences))
	}
	// The service changes some of them.
	var holds, payments []uuid.UUID
	b.must(b.Owner.Select(&holds, `SELECT id FROM holds WHERE status = 'open' AND order_id IS NULL AND account_id = $1`,
		accounts[0]))
	b.must(b.Owner.Select(&payments, `SELECT order_id FROM payments WHERE status = 'authorized' AND account_id = $1`,
		accounts[0]))
	b.settle(b.request(accounts[0], ledger.Release{HoldID: holds[0]}),
		b.request(accounts[0], ledger.Confirm{OrderID: payments[0]}),
		b.request(accounts[1], ledger.Deposit{Currency: "USDT", Amount: 100}),
		b.request(accounts[1], ledger.Resume{Currency: "USDT"}))
	b.link()
	var recorded []Sealing
	record := func(_ context.Context, _ *sqlx.Tx, s Sealing) error {
		recorded = append(recorded, s)
		return nil
	}
	if n, err := b.Seal(t.Context(), record, nil); err != nil || int(n) != rows {
		t.Errorf("%d rows of %d were sealed, %v", n, rows, err)
	}
	sealed := b.intact()
	if len(sealed.Sealings) != 1 || sealed.Sealings[0].Items != int64(rows) {
		t.Errorf("%+v", sealed.Sealings)
	}
	b.everything()
	b.intact()
	if n, err := b.Seal(t.Context(), record, nil); err != nil || n != 0 {
		t.Errorf("%d rows were sealed again, %v", n, err)
	}
	if len(recorded) != 1 || recorded[0].Number != 1 || recorded[0].Items != int64(rows) {
		t.Errorf("recorded is %+v", recorded)
	}

	b.exec(`UPDATE entries SET amount = amount + 1 WHERE operation = 'withdraw'`)
	if _, err := b.Seal(t.Context(), nil, nil); err == nil {
		t.Error("a row that was changed was sealed")
	}
	b.exec(`UPDATE entries SET amount = amount - 1 WHERE operation = 'withdraw'`)
	b.exec(`INSERT INTO accounts (id, lane, created_at) VALUES (gen_random_uuid(), 1, now())`)
	if n, err := b.Seal(t.Context(), nil, nil); err != nil || n != 1 {
		t.Errorf("%d rows were sealed, %v", n, err)
	}
	if found := b.verified(Verifying{Sealings: 1}); len(found.Differences) == 0 || found.Differences[0].Table != "chain" {
		t.Errorf("a second sealing: %+v", found)
	}
	if found := b.verified(Verifying{Sealings: 2}); len(found.Differences) > 0 {
		t.Errorf("a second sealing that is known: %+v", found)
	}
}

// What was published once must be in the chain for ever.
func TestHeads(t *testing.T) {
	b := setup(t)
	var heads []contract.LedgerHead
	link := func(every time.Duration) (batches int, published bool) {
		batches, published, err := b.Link(t.Context(), every, func(h contract.LedgerHead) (outbox.Message, error) {
			heads = append(heads, h)
			return outbox.Message{ID: uuid.New(), Topic: contract.TopicHeads, Payload: "{}"}, nil
		})
		b.must(err)
		return batches, published
	}
	if n, published := link(0); n != 0 || published {
		t.Errorf("an empty chain: %d, %t", n, published)
	}
	account := uuid.New()
	b.settle(b.request(account, ledger.CreateAccount{}))
	b.settle(b.request(account, ledger.Deposit{Currency: "RUB", Amount: 1}))
	if n, published := link(time.Hour); n != 2 || !published {
		t.Errorf("the first head: %d, %t", n, published)
	}
	if n, published := link(0); n != 0 || published {
		t.Errorf("the same head again: %d, %t", n, published)
	}
	b.settle(b.request(account, ledger.Deposit{Currency: "RUB", Amount: 1}))
	if n, published := link(time.Hour); n != 1 || published {
		t.Errorf("within the hour: %d, %t", n, published)
	}
	if _, published := link(0); !published || len(heads) != 2 || heads[1].Number != 2 {
		t.Errorf("the second head: %t, %+v", published, heads)
	}
	// The clock was ahead when the last head was published, and is right again.
	b.exec(`UPDATE chain_heads SET at = at + interval '1 year' WHERE number = 2`)
	b.settle(b.request(account, ledger.Deposit{Currency: "RUB", Amount: 1}))
	if _, published := link(time.Hour); !published {
		t.Error("no head is published until the clock is where it was")
	}
	if found := b.verified(Verifying{Heads: heads}); len(found.Differences) > 0 {
		t.Errorf("%+v", found.Differences)
	}
	// Everything since the beginning was made anew, consistently.
	b.exec(`DELETE FROM chain`)
	if _, err := b.Seal(t.Context(), nil, nil); err != nil {
		t.Fatal(err)
	}
	b.intact()
	found := b.verified(Verifying{Sealings: 1, Heads: heads})
	if len(found.Differences) != len(heads) || found.Differences[0].ID != "1" || found.Differences[1].ID != "2" {
		t.Errorf("a chain that was made anew: %+v", found.Differences)
	}
}

// Personal texts can be erased; and what is final is nothing that the service's role can change.
func TestWhatIsFinal(t *testing.T) {
	b := setup(t)
	b.everything()
	for _, statement := range []string{
		`UPDATE operations SET status = 'success', reason = '' WHERE status = 'error'`,
		`UPDATE operations SET note = 'x' WHERE status = 'success'`,
		`UPDATE operations SET status = 'created', settled_at = NULL WHERE status = 'success'`,
		`UPDATE operations SET amount = 1`, `UPDATE operations SET description = ''`, `UPDATE operations SET id = id`,
		`UPDATE operations SET subject = ''`, `UPDATE operations SET key = ''`,
		`UPDATE operations SET cancelled_by = NULL WHERE cancelled_by IS NOT NULL`,
		`UPDATE holds SET status = 'open', captured = 0 WHERE status = 'captured'`, `UPDATE holds SET amount = 1`,
		`UPDATE payments SET version = version + 1, status = 'authorized', previous = 'created' WHERE status = 'failed'`,
		`UPDATE payments SET version = version + 1, captured = captured - 1 WHERE status = 'succeeded'`,
		`UPDATE payments SET version = version + 1, status = 'refunded', previous = 'succeeded', refunded = 0
			WHERE status = 'refunded'`,
		`UPDATE payments SET note = 'x' WHERE status = 'authorized'`, `UPDATE payments SET amount = 1`,
		`UPDATE accounts SET owner = ''`, `UPDATE chain SET items = ''`, `DELETE FROM chain`, `TRUNCATE chain`,
		`UPDATE chain_unlinked SET items = ''`, `UPDATE chain_heads SET at = now()`, `DELETE FROM chain_heads`,
	} {
		if _, err := b.Service.ExecContext(t.Context(), statement); pq.As(err, pqerror.InsufficientPrivilege) == nil {
			t.Errorf("%s: %v", statement, err)
		}
	}
	var open string
	b.must(b.Service.Get(&open, `
		SELECT string_agg(attname, ' ' ORDER BY attname) FROM pg_attribute
		WHERE attrelid = 'operations'::regclass AND has_column_privilege('operations', attname, 'UPDATE')`))
	if open != "cancelled_by hold_id note reason settled_at status" {
		t.Errorf("of an operation the service can change %s", open)
	}
	for _, statement := range []string{
		`UPDATE operations SET description = '', reference = '', note = '', fingerprint = NULL`,
		`UPDATE operations SET subject = '', key = '', cancelled_by = NULL`,
		`UPDATE payments SET note = ''`, `UPDATE accounts SET owner = '', owner_salt = NULL, reference = ''`,
	} {
		b.exec(statement)
	}
	b.intact()
}

// Who owns an account cannot be changed unseen, be the owner's hash made anew or not, nor can an owner be given to an
// account that had none or whose owner was erased.
func TestOwnersAreCovered(t *testing.T) {
	b := setup(t)
	owned, erased, free := uuid.New(), uuid.New(), uuid.New()
	b.settle(b.request(owned, ledger.CreateAccount{Owner: "alice"}),
		b.request(erased, ledger.CreateAccount{Owner: "alice"}), b.request(free, ledger.CreateAccount{}))
	b.exec(`UPDATE accounts SET owner = '', owner_salt = NULL WHERE id = $1`, erased)
	b.intact()
	for _, id := range []uuid.UUID{owned, erased, free} {
		for _, set := range []string{
			`owner = 'mallory'`, `owner = 'mallory', owner_salt = NULL`,
			`owner = 'mallory', owner_salt = NULL, owner_hash = NULL`,
			`owner = 'mallory', owner_salt = '` + owned.String() + `', owner_hash = '` +
				chain.OwnerHash(owned, "mallory").String() + `'`,
			`owner = 'mallory', owner_salt = '` + owned.String() + `'`, `tenant = 'other'`,
		} {
			statement := `UPDATE accounts SET ` + set + ` WHERE id = '` + id.String() + `'`
			found, changed, err := b.edited(statement)
			if err != nil || !changed || len(found) == 0 || found[0].Table != "accounts" || found[0].ID != id.String() {
				t.Errorf("%s: %+v, %v", statement, found, err)
			}
		}
	}
	var hashes int
	b.must(b.Owner.Get(&hashes, `SELECT count(DISTINCT owner_hash) FROM accounts`))
	if hashes != 3 {
		t.Errorf("three accounts have %d hashes", hashes)
	}
}

// Old rows can be moved elsewhere: without the archive they are missing, with it everything is there, once. What was
// changed there shows, and personal texts can be erased there too.
func TestTheArchiveIsPartOfTheLedger(t *testing.T) {
	postgrestest.NotOnCitus(t, "there is no archive of distributed tables")
	b := setup(t)
	b.everything()
	before := b.intact()
	// All but what the service still reads: the last entry of each balance.
	b.exec(`CREATE SCHEMA archive`)
	b.exec(`GRANT USAGE ON SCHEMA archive TO payments_service`)
	for table, old := range map[string]string{
		"entries": `number < (SELECT entries FROM balances b WHERE b.account_id = t.account_id AND b.currency = t.currency
			AND b.lane = t.lane)`,
		"operations": `status = 'success'`, "holds": `status <> 'open'`,
	} {
		b.exec(`CREATE TABLE archive.` + table + ` (LIKE public.` + table + `)`)
		b.exec(`GRANT SELECT ON archive.` + table + ` TO payments_service`)
		b.exec(`WITH moved AS (DELETE FROM ` + table + ` t WHERE ` + old + ` RETURNING *)
			INSERT INTO archive.` + table + ` SELECT * FROM moved`)
	}
	archived := b.count(`SELECT (SELECT count(*) FROM archive.entries) + (SELECT count(*) FROM archive.operations)
		+ (SELECT count(*) FROM archive.holds)`)
	if found := b.verified(Verifying{}).Differences; len(found) < archived {
		t.Errorf("without the archive %d rows are missing, and %d differences found", archived, len(found))
	}
	check := func(differences int) {
		t.Helper()
		got := b.verified(Verifying{Archive: "archive"})
		if len(got.Differences) != differences || got.Rows != before.Rows || got.Archived != int64(archived) {
			t.Errorf("%d rows, %d of them in the archive, %+v", got.Rows, got.Archived, got.Differences)
		}
	}
	check(0)
	b.exec(`UPDATE archive.operations SET description = '', reference = '', note = '', fingerprint = NULL`)
	check(0)
	b.exec(`UPDATE archive.entries SET amount = amount + 1 WHERE ctid = (SELECT min(ctid) FROM archive.entries)`)
	check(1)
	b.exec(`UPDATE archive.entries SET amount = amount - 1 WHERE ctid = (SELECT max(ctid) FROM archive.entries)`)
	check(0)
	if _, err := b.Verify(t.Context(), Verifying{Archive: "nowhere"}); err == nil {
		t.Error("an archive that is not there is no error")
	}
}
