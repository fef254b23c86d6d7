package ledger

import (
	"cmp"
	"fmt"
	"math"
	"strconv"

	"github.com/google/uuid"
)

const (
	// maxBalance is the most that one operation may move, and that may come to a client, with what is frozen. It is half of what
	// can be written down, so that as much can be given back to a client.
	maxBalance = math.MaxInt64 / 2
	// maxSystem is what a system account may have, either way, before an operation moves money from or to it: with that operation's
	// it can still be written down.
	maxSystem = math.MaxInt64 / 4
)

// move takes the operation's amount from one actual balance and adds it to another.
func (b *Book) move(op *Operation, from, to Key) Reason {
	payer, payee := b.balance(from), b.balance(to)
	if !IsSystem(from.AccountID) && payer.Actual < op.Amount {
		return InsufficientFunds
	}
	limit := int64(maxBalance)
	if from.AccountID == Revenue { // what comes back may find as much there
		limit = math.MaxInt64
	}
	// What is frozen may come back to the actual balance, so there must be room for both.
	if op.Amount > maxBalance || !IsSystem(to.AccountID) && payee.Actual > limit-payee.Frozen-op.Amount {
		return BalanceTooLarge
	}
	b.makeRoom(op, from)
	b.makeRoom(op, to)
	b.enter(op, from, -op.Amount, 0)
	b.enter(op, to, op.Amount, 0)
	return ""
}

// makeRoom moves what a system account has to a vault when it is very much. The money of a lane's clients together, and all
// that was ever earned from them, may be more than can be written down as one number; with 18 digits that is nine units. So
// that one client's money is never in another one's way, there is always room.
func (b *Book) makeRoom(op *Operation, key Key) {
	balance := b.balance(key)
	if !IsSystem(key.AccountID) || -maxSystem <= balance.Actual && balance.Actual <= maxSystem {
		return
	}
	full := key.of(vault(key.AccountID, balance.Entries))
	from, to, amount := key, full, balance.Actual
	if amount < 0 {
		from, to, amount = full, key, -amount
	}
	carry := &Operation{
		ID:   uuid.NewSHA1(full.AccountID, []byte(full.Currency+strconv.Itoa(int(full.Lane)))),
		Lane: key.Lane, Seq: op.Seq, Kind: Transfer, AccountID: from.AccountID, ToAccountID: to.AccountID, Currency: key.Currency,
		Amount: amount, Status: Success, CreatedAt: b.Now, SettledAt: b.Now,
	}
	b.changes.Operations = append(b.changes.Operations, carry)
	b.changes.Vaults = append(b.changes.Vaults, full)
	b.enter(carry, from, -amount, 0)
	b.enter(carry, to, amount, 0)
}

// hold sets the operation's amount aside.
func (b *Book) hold(op *Operation, r Request, own Key) Reason {
	if b.balance(own).Actual < op.Amount {
		return InsufficientFunds
	}
	if op.Amount > maxBalance {
		return BalanceTooLarge
	}
	b.enter(op, own, -op.Amount, op.Amount)
	op.HoldID = op.ID
	b.holds[op.ID] = &Hold{
		ID: op.ID, Lane: r.Lane, AccountID: r.AccountID, Currency: r.Currency, Amount: r.Amount, Status: Open, OrderID: r.OrderID,
		ExpiresAt: r.deadline(HoldExpiry), CreatedAt: b.Now,
	}
	b.changes.Holds[op.ID] = b.holds[op.ID]
	return ""
}

// endHold captures or releases a hold, as its client asks.
func (b *Book) endHold(op *Operation, r Request) Reason {
	hold, ok := b.holds[r.HoldID]
	if !ok || hold.AccountID != r.AccountID {
		return HoldNotFound
	}
	if hold.OrderID != uuid.Nil {
		op.Currency, op.Amount = hold.Currency, cmp.Or(r.Amount, hold.Amount)
		return HoldOfOrder
	}
	if r.Kind == Release {
		return b.free(op, hold, 0, Released)
	}
	return b.free(op, hold, cmp.Or(r.Amount, hold.Amount), Captured)
}

// free ends a hold: what is captured becomes revenue, the rest goes back to where it was taken from.
func (b *Book) free(op *Operation, hold *Hold, captured int64, status HoldStatus) Reason {
	op.HoldID, op.Currency, op.Amount = hold.ID, hold.Currency, cmp.Or(captured, hold.Amount)
	own := Key{hold.AccountID, hold.Currency, hold.Lane}
	switch {
	case hold.Status != Open:
		return HoldNotOpen
	case captured > hold.Amount:
		return AmountExceedsHold
	}
	if captured > 0 {
		b.makeRoom(op, own.of(Revenue))
	}
	b.enter(op, own, hold.Amount-captured, -hold.Amount)
	if captured > 0 {
		b.enter(op, own.of(Revenue), captured, 0)
	}
	hold.Status, hold.Captured = status, captured
	b.changes.Holds[hold.ID] = hold
	return ""
}

// enter changes a balance and writes the entry that says so.
func (b *Book) enter(op *Operation, key Key, amount, frozen int64) {
	balance := b.balance(key)
	balance.Actual += amount
	balance.Frozen += frozen
	balance.Entries++
	if !IsSystem(key.AccountID) && (balance.Actual < 0 || balance.Frozen < 0) {
		panic(fmt.Sprintf("ledger: %s %s of %s would leave %d actual and %d frozen in %s",
			op.Kind, op.ID, key.AccountID, balance.Actual, balance.Frozen, key.Currency))
	}
	b.touched[key] = true
	if amount > 0 && balance.Waiting > 0 {
		b.changes.Resumes[key] = true
	}
	b.changes.Entries = append(b.changes.Entries, Entry{
		Key: key, Number: balance.Entries, OperationID: op.ID, Operation: op.Kind,
		Amount: amount, Frozen: frozen, BalanceAfter: balance.Actual, FrozenAfter: balance.Frozen,
	})
}
