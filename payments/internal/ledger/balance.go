package ledger

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"strconv"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/identity"
)

// Key names a balance. Lane is the account's; a system account has a balance in the lane of each client.
type Key struct {
	AccountID uuid.UUID `db:"account_id"`
	Currency  string    `db:"currency"`
	Lane      int16     `db:"lane"`
}

// Compare orders keys by account, currency and lane.
func (k Key) Compare(other Key) int {
	return cmp.Or(
		bytes.Compare(k.AccountID[:], other.AccountID[:]),
		cmp.Compare(k.Currency, other.Currency), cmp.Compare(k.Lane, other.Lane),
	)
}

// beside is the balance of a system account in the same lane and currency.
func (k Key) beside(system uuid.UUID) Key { return Key{system, k.Currency, k.Lane} }

// Balance is what an account has of one currency, in minor units.
type Balance struct {
	Actual  int64 `db:"actual"`  // free to use
	Frozen  int64 `db:"frozen"`  // set aside by holds
	Entries int64 `db:"entries"` // how many entries there are, which is the number of the last one
	Waiting int64 `db:"waiting"` // how many requests wait for money
}

// Entry is one line of an account's statement: what an operation changed, and what was there afterwards.
type Entry struct {
	Key
	Number       int64     `db:"number"` // per balance, without gaps, from 1
	OperationID  uuid.UUID `db:"operation_id"`
	Operation    Kind      `db:"operation"`
	Amount       int64     `db:"amount"` // change of the actual balance
	Frozen       int64     `db:"frozen"` // change of the frozen balance
	BalanceAfter int64     `db:"balance_after"`
	FrozenAfter  int64     `db:"frozen_after"`
}

const (
	// maxBalance is the most that one operation may move, and that a client may be given, frozen money included. It is
	// half of an int64: so much may still be given back to the client.
	maxBalance = math.MaxInt64 / 2
	// maxSystem is what a system account may have, on either side of zero, before an operation moves money: the sum still
	// fits into an int64.
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
	if balance.Entries == 1 {
		if account := b.accounts[key.AccountID]; !sameTenant(account.Tenant, identity.DefaultTenant) {
			b.changes.Tenants[key] = account.Tenant
		}
	}
	if amount > 0 && balance.Waiting > 0 {
		b.changes.Resumes[key] = b.accounts[key.AccountID].Tenant
	}
	b.changes.Entries = append(b.changes.Entries, Entry{
		Key: key, Number: balance.Entries, OperationID: op.ID, Operation: op.Kind,
		Amount: amount, Frozen: frozen, BalanceAfter: balance.Actual, FrozenAfter: balance.Frozen,
	})
}

// The system accounts. Each has one balance row per lane and currency, so that it is never a hot row; the row of the
// client's lane is used. Only their balances may be negative.
var (
	// External is the world outside: deposits come from it, withdrawals go to it. Its balance is minus what is inside.
	External = uuid.MustParse("00000000-0000-0000-0000-000000000001")
	// Revenue is what was earned, by payments of orders and captured holds.
	Revenue = uuid.MustParse("00000000-0000-0000-0000-000000000002")
)

// IsSystem tells whether an ID is that of a system account, or of one of its vaults.
func IsSystem(account uuid.UUID) bool {
	return [6]byte(account[:6]) == [6]byte{} && (account == External || account == Revenue || account[6] == vaults)
}

// makeRoom empties a system account into a vault when it has very much. The clients of a lane together, and all that
// was ever earned from them, may have more than an int64 of minor units, which in a currency of 18 digits is nine
// units. With vaults there is always room, and one client's money is never in another's way.
func (b *Book) makeRoom(op *Operation, key Key) {
	balance := b.balance(key)
	if !IsSystem(key.AccountID) || -maxSystem <= balance.Actual && balance.Actual <= maxSystem {
		return
	}
	full := key.beside(vault(key.AccountID, balance.Entries))
	from, to, amount := key, full, balance.Actual
	if amount < 0 {
		from, to, amount = full, key, -amount
	}
	carry := &Operation{
		ID:   uuid.NewSHA1(full.AccountID, []byte(full.Currency+strconv.Itoa(int(full.Lane)))),
		Lane: key.Lane, Seq: op.Seq, Kind: KindTransfer, AccountID: from.AccountID, ToAccountID: to.AccountID,
		Currency: key.Currency, Amount: amount, Status: Success, CreatedAt: b.Now, SettledAt: b.Now,
	}
	b.changes.Operations = append(b.changes.Operations, carry)
	b.changes.Vaults[full] = true
	b.enter(carry, from, -amount, 0)
	b.enter(carry, to, amount, 0)
}

// vaults is the seventh byte of a vault's ID, after six zeros: a UUID of version 8, which nobody else makes.
const vaults = 0x80

// vault is an account for what a system account has no room for. The number tells the vaults of a system account apart.
func vault(system uuid.UUID, number int64) (id uuid.UUID) {
	id[6], id[7], id[8] = vaults, system[15], 0x80
	for i := range 6 {
		id[15-i] = byte(number >> (8 * i))
	}
	return id
}
