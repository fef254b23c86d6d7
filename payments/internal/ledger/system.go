package ledger

import (
	"strconv"

	"github.com/google/uuid"
)

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
