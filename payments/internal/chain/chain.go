// Package chain makes a change of the ledger's rows evident that did not come through the settlement. It does no I/O.
//
// Each batch stores what it has written, in its own transaction, as items: the hash of each new row and, where a row
// has changed, the hash of what it was before. So the rows of the database must be exactly what all items add up to
// (Sums). Soon afterwards the items of some batches become a link of the chain. The hash of a link covers its items
// and the hash of the link before it: no item can be changed without changing all links that follow, up to the head
// that was published. Until it is published, whoever owns the database could rewrite the whole chain; so a link that
// comes a moment after its batch is as good as one in the batch itself, and costs a batch less than half.
//
// A hash covers amounts, IDs, statuses, codes, numbers and times; never a text that a client has written, or anything
// made of one, nor who has asked for something, so that personal data can be erased. The owner of an account, who may
// do everything with it, is covered by a hash with a salt, which is erased with the owner.
package chain

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
)

// Kind is the table of a row.
type Kind byte

// The kinds of rows that the chain covers.
const (
	Account   Kind = 'a'
	Entry     Kind = 'e'
	Hold      Kind = 'h'
	Operation Kind = 'o'
	Payment   Kind = 'p'
)

// The kinds of rows that are in no link but follow from those that are.
const (
	Balance Kind = 'b' // of an account that has entries
	Wait    Kind = 'w' // of an operation that is created
)

// tables are the tables of the kinds.
var tables = map[Kind]string{
	Account: "accounts", Entry: "entries", Hold: "holds", Operation: "operations", Payment: "payments",
	Balance: "balances", Wait: "waits",
}

// Table is the name of the kind's table.
func (k Kind) Table() string { return tables[k] }

// changes tells whether rows of this kind change after they were written: operations until they are final, holds until
// they are closed, payments with each version.
func (k Kind) changes() bool { return k == Hold || k == Operation || k == Payment }

func (k Kind) linked() bool { return k == Account || k == Entry || k.changes() }

// Hash is the hash of a row: the first half of the SHA-256 over its kind and its columns.
type Hash [16]byte

// Row writes the canonical form of a row: its columns one after another, see Column. The zero Row can be used; Begin
// begins the next row.
type Row struct{ b []byte }

// Begin begins a row.
func (r *Row) Begin(kind Kind) *Row { r.b = append(r.b[:0], byte(kind)); return r }

// Hash is the hash of the row.
func (r *Row) Hash() Hash {
	sum := sha256.Sum256(r.b)
	return Hash(sum[:])
}

// Raw adds columns that are in their canonical form.
func (r *Row) Raw(columns ...byte) *Row { r.b = append(r.b, columns...); return r }

func (r *Row) uuid(id uuid.UUID) *Row { return r.Raw(id[:]...) }
func (r *Row) small(n int16) *Row     { r.b = binary.BigEndian.AppendUint16(r.b, uint16(n)); return r }
func (r *Row) big(n int64) *Row       { r.b = binary.BigEndian.AppendUint64(r.b, uint64(n)); return r }
func (r *Row) text(text string) *Row  { r.b = append(append(r.b, text...), 0); return r }
func (r *Row) time(at time.Time) *Row { return r.big(int64(TimeOf(at))) }

// optional adds a uuid that is NULL if it is uuid.Nil.
func (r *Row) optional(id uuid.UUID) *Row {
	if r.bool(id != uuid.Nil); id == uuid.Nil {
		return r
	}
	return r.uuid(id)
}

// optionalTime adds a time that is NULL if it is zero.
func (r *Row) optionalTime(at time.Time) *Row {
	if r.bool(!at.IsZero()); at.IsZero() {
		return r
	}
	return r.time(at)
}

func (r *Row) bool(is bool) {
	if is {
		r.Raw(1)
	} else {
		r.Raw(0)
	}
}

// Time is a timestamptz as PostgreSQL keeps it: microseconds since the year 2000.
type Time int64

// epoch is where PostgreSQL's time begins.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// TimeOf is a time to the microsecond.
func TimeOf(at time.Time) Time { return Time(at.UnixMicro() - epoch.UnixMicro()) }

// Time is the time in UTC.
func (t Time) Time() time.Time { return time.UnixMicro(int64(t) + epoch.UnixMicro()).UTC() }

// Item is a row that a batch has written, or one that is no longer what it was.
type Item struct {
	Kind Kind
	Gone bool      // the row had this hash before
	ID   uuid.UUID // of the row; of an entry, that of its operation
	Hash Hash
	At   Time // of the batch, and of its entries: their hashes do not cover it, since the database sets it
}

const (
	batch = 'B'  // begins a batch, with its time
	gone  = 0x80 // is set in the first byte of an item that is gone

	batchSize = 1 + 8
	itemSize  = 1 + 16 + len(Hash{})
)

// AppendBatch appends the items of a batch to those of a link.
func AppendBatch(link []byte, at Time, items []byte) []byte {
	link = binary.BigEndian.AppendUint64(append(link, batch), uint64(at))
	return append(link, items...)
}

// Append appends the item to those of its batch.
func (i Item) Append(items []byte) []byte {
	first := byte(i.Kind)
	if i.Gone {
		first |= gone
	}
	items = append(append(items, first), i.ID[:]...)
	return append(items, i.Hash[:]...)
}

// Items calls yield with each item of a link.
func Items(link []byte, yield func(Item) error) error {
	var at Time
	for len(link) > 0 {
		size := itemSize
		if link[0] == batch {
			size = batchSize
		}
		if len(link) < size {
			return fmt.Errorf("an item has %d bytes", len(link))
		}
		if link[0] == batch {
			at = Time(binary.BigEndian.Uint64(link[1:]))
		} else {
			i := Item{Kind: Kind(link[0] &^ gone), Gone: link[0]&gone != 0, At: at}
			copy(i.ID[:], link[1:])
			copy(i.Hash[:], link[1+len(i.ID):])
			if !i.Kind.linked() || i.Gone && !i.Kind.changes() {
				return fmt.Errorf("there is no item %q", link[0])
			}
			if err := yield(i); err != nil {
				return err
			}
		}
		link = link[size:]
	}
	return nil
}

// Link is one link of the chain.
type Link struct {
	Number  int64 // from 1, without gaps
	At      Time
	Sealing int64 // 0 if batches have written the items; else the number of the sealing that has added older rows
	Items   []byte
}

// Hash is the hash of the link that follows the one with the hash previous, which is empty for the first.
func (l Link) Hash(previous []byte) [sha256.Size]byte {
	items := sha256.Sum256(l.Items)
	b := make([]byte, 0, 3*8+2*sha256.Size)
	b = append(b, previous...)
	b = binary.BigEndian.AppendUint64(b, uint64(l.Number))
	b = binary.BigEndian.AppendUint64(b, uint64(l.At))
	b = binary.BigEndian.AppendUint64(b, uint64(l.Sealing))
	return sha256.Sum256(append(b, items[:]...))
}

// Columns are the columns that the hash of a row covers, in their order. The functions below write the same of the
// ledger's types. A reason is covered, since it is a code, with two exceptions: that of a cancelled payment, where
// earlier versions kept what the client said, and that of a waiting operation, since what it waits for changes.
var Columns = map[Kind][]Column{
	Account: {UUID("id"), Small("lane"), Timestamp("created_at"), Text(tenantAndOwner)},
	Entry: {
		UUID("account_id"), Small("lane"), Text("currency"), Big("number"), UUID("operation_id"), Text("operation"),
		Big("amount"), Big("frozen"), Big("balance_after"), Big("frozen_after"),
	},
	Hold: {
		UUID("id"), Small("lane"), UUID("account_id"), Text("currency"), Big("amount"), Big("captured"), Text("status"),
		OptionalUUID("order_id"), Timestamp("expires_at"), Timestamp("created_at"),
	},
	Operation: {
		UUID("id"), Small("lane"), Big("seq"), Text("operation"), UUID("account_id"), OptionalUUID("to_account_id"),
		OptionalUUID("hold_id"), OptionalUUID("order_id"), OptionalUUID("command_id"), Text("currency"), Big("amount"),
		Text("status"), Text("CASE WHEN status = 'created' THEN '' ELSE reason END"), Timestamp("created_at"),
		OptionalTimestamp("settled_at"), Text("tenant"), Bool("stranger"),
	},
	Payment: {
		UUID("order_id"), Small("lane"), UUID("account_id"), Text("currency"), Big("amount"), Text("capture"), Text("status"),
		Text("CASE WHEN status = 'cancelled' THEN '' ELSE reason END"), Big("captured"), Big("refunded"), Big("version"),
		Timestamp("created_at"), Timestamp("updated_at"), Text("previous"), Text("tenant"),
	},
}

// tenantAndOwner is the tenant of an account and the hash of its owner; so the owner is covered and can be erased, with
// its salt. What does not fit together is a text that no account was ever written with.
const tenantAndOwner = `tenant || coalesce(' ' || owner_hash::text, '') || CASE
	WHEN owner = '' AND owner_salt IS NULL OR owner_hash IS NOT DISTINCT FROM
		encode(substring(sha256(uuid_send(owner_salt) || textsend(owner)), 1, 16), 'hex')::uuid
	THEN '' ELSE ' !' END`

// OwnerHash is what a row's hash covers of the owner of an account: the first half of a SHA-256 over a random salt and
// the owner. Without the salt it tells nothing of the owner.
func OwnerHash(salt uuid.UUID, owner string) uuid.UUID {
	sum := sha256.Sum256(append(salt[:], owner...))
	return uuid.UUID(sum[:len(uuid.UUID{})])
}

// Batch returns the items of what a batch has changed.
func Batch(c ledger.Changes) []byte {
	n := len(c.Accounts) + len(c.Operations) + 2*len(c.Completed) + len(c.Entries) + 2*len(c.Holds) + 2*len(c.States)
	w := writer{items: make([]byte, 0, n*itemSize)}
	for i := range c.Accounts {
		w.account(&c.Accounts[i])
	}
	for _, op := range c.Operations {
		w.operation(op, false)
	}
	for _, completion := range c.Completed {
		op := completion.Operation
		if op.Status == ledger.Created { // it waits for something else now, which no hash covers
			continue
		}
		waited := *op
		waited.Status, waited.HoldID, waited.SettledAt = ledger.Created, uuid.Nil, time.Time{}
		w.operation(&waited, true)
		w.operation(op, false)
	}
	for i := range c.Entries {
		w.entry(&c.Entries[i])
	}
	for id, hold := range c.Holds {
		if stored, ok := c.StoredHolds[id]; ok {
			w.hold(&stored, true)
		}
		w.hold(hold, false)
	}
	for id, p := range c.States {
		if stored, ok := c.StoredPayments[id]; ok {
			w.payment(&stored, true)
		}
		w.payment(p, false)
	}
	return w.items
}

// writer writes rows and collects their items.
type writer struct {
	row   Row
	items []byte
}

func (w *writer) account(a *ledger.Account) {
	tenant := a.Tenant
	if a.OwnerHash != uuid.Nil {
		tenant += " " + a.OwnerHash.String()
	}
	w.row.Begin(Account).uuid(a.ID).small(a.Lane).time(a.CreatedAt).text(tenant)
	w.add(Account, false, a.ID)
}

func (w *writer) entry(e *ledger.Entry) {
	w.row.Begin(Entry).
		uuid(e.AccountID).small(e.Lane).text(e.Currency).big(e.Number).uuid(e.OperationID).text(string(e.Operation)).
		big(e.Amount).big(e.Frozen).big(e.BalanceAfter).big(e.FrozenAfter)
	w.add(Entry, false, e.OperationID)
}

func (w *writer) hold(h *ledger.Hold, gone bool) {
	w.row.Begin(Hold).
		uuid(h.ID).small(h.Lane).uuid(h.AccountID).text(h.Currency).big(h.Amount).big(h.Captured).text(string(h.Status)).
		optional(h.OrderID).time(h.ExpiresAt).time(h.CreatedAt)
	w.add(Hold, gone, h.ID)
}

func (w *writer) operation(op *ledger.Operation, gone bool) {
	reason := op.Reason
	if op.Status == ledger.Created {
		reason = ""
	}
	w.row.Begin(Operation).
		uuid(op.ID).small(op.Lane).big(op.Seq).text(string(op.Kind)).uuid(op.AccountID).optional(op.ToAccountID).
		optional(op.HoldID).optional(op.OrderID).optional(op.CommandID).text(op.Currency).big(op.Amount).
		text(string(op.Status)).text(string(reason)).time(op.CreatedAt).
		optionalTime(op.SettledAt).text(op.Tenant).bool(op.Stranger)
	w.add(Operation, gone, op.ID)
}

func (w *writer) payment(p *ledger.OrderPayment, gone bool) {
	reason := p.Reason
	if p.Status == contract.PaymentCancelled {
		reason = ""
	}
	w.row.Begin(Payment).
		uuid(p.OrderID).small(p.Lane).uuid(p.AccountID).text(p.Currency).big(p.Amount).text(p.Capture).text(p.Status).
		text(string(reason)).big(p.Captured).big(p.Refunded).big(p.Version).
		time(p.CreatedAt).time(p.UpdatedAt).text(p.Previous).text(p.Tenant)
	w.add(Payment, gone, p.OrderID)
}

// add adds the row that was written last.
func (w *writer) add(kind Kind, gone bool, id uuid.UUID) {
	w.items = Item{Kind: kind, Gone: gone, ID: id, Hash: w.row.Hash()}.Append(w.items)
}

// Column is a column of a table and its canonical form: that in which PostgreSQL sends the type in binary, which has a
// fixed size; a text, which has no zero byte, ends with one; and before a column that may be NULL stands 1, or 0 alone.
type Column struct {
	sql      string // makes the canonical form
	size     int    // 0 is a text
	optional bool
}

// UUID is a column of the type uuid, given as SQL.
func UUID(sql string) Column { return Column{sql: "uuid_send(" + sql + ")", size: 16} }

// Small is a column of the type smallint, given as SQL.
func Small(sql string) Column { return Column{sql: "int2send(" + sql + ")", size: 2} }

// Big is a column of the type bigint, given as SQL.
func Big(sql string) Column { return Column{sql: "int8send(" + sql + ")", size: 8} }

// Bool is a column of the type boolean, given as SQL.
func Bool(sql string) Column { return Column{sql: "boolsend(" + sql + ")", size: 1} }

// Timestamp is a column of the type timestamptz, given as SQL.
func Timestamp(sql string) Column { return Column{sql: "timestamptz_send(" + sql + ")", size: 8} }

// Text is a column of the type text, given as SQL.
func Text(sql string) Column { return Column{sql: `textsend(` + sql + `) || '\x00'::bytea`} }

// OptionalUUID is a UUID that may be NULL.
func OptionalUUID(sql string) Column { return optional(UUID(sql)) }

// OptionalTimestamp is a Timestamp that may be NULL.
func OptionalTimestamp(sql string) Column { return optional(Timestamp(sql)) }

func optional(c Column) Column {
	return Column{sql: `coalesce('\x01'::bytea || ` + c.sql + `, '\x00'::bytea)`, size: c.size, optional: true}
}

// SQL is an expression for the canonical form of columns. It is NULL if a column is NULL that may not be.
func SQL(columns []Column) string {
	parts := make([]string, len(columns))
	for i, column := range columns {
		parts[i] = column.sql
	}
	return strings.Join(parts, " || ")
}

var errShort = errors.New("a row is not in its canonical form")

// Split splits the columns off what begins with them in their canonical form. It appends their values to values, of a
// NULL nil, and returns the rest.
func Split(values [][]byte, columns []Column, row []byte) (_ [][]byte, rest []byte, err error) {
	for _, column := range columns {
		size, skip := column.size, 0
		switch {
		case column.optional && len(row) > 0 && row[0] == 0:
			values, row = append(values, nil), row[1:]
			continue
		case column.optional && len(row) > 0:
			row = row[1:]
		case size == 0:
			size, skip = bytes.IndexByte(row, 0), 1
		}
		if size < 0 || len(row) < size {
			return nil, nil, errShort
		}
		values, row = append(values, row[:size]), row[size+skip:]
	}
	return values, row, nil
}
