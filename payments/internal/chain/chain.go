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
// made of one, so that personal data can be erased. The owner of an account, who may do everything with it, is covered
// by a hash with a salt, which is erased with the owner.
package chain

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/google/uuid"
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
