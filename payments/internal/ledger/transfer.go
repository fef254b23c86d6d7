package ledger

import (
	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
)

// KindTransfer is the kind of Transfer.
const KindTransfer Kind = "transfer"

// Transfer moves money from the request's account to another one.
type Transfer struct {
	Currency    string    `json:"currency,omitempty"`
	Amount      int64     `json:"amount,omitempty"`
	ToAccountID uuid.UUID `json:"to_account_id,omitzero"`
	Reference   string    `json:"reference,omitempty"`
	Description string    `json:"description,omitempty"`
}

func (Transfer) kind() Kind { return KindTransfer }

func (c Transfer) needs(b *Book, r Request, n *Needs) {
	n.account(r.AccountID)
	n.account(c.ToAccountID)
	n.takes(c.from(r))
	if !b.foreign(r, c.ToAccountID) {
		n.gives(c.to())
	}
}

func (c Transfer) operation() Operation {
	return Operation{
		Kind: KindTransfer, ToAccountID: c.ToAccountID, Currency: c.Currency, Amount: c.Amount,
		Reference: c.Reference, Description: c.Description,
	}
}

func (c Transfer) settle(b *Book, op *Operation, r Request) Reason {
	switch {
	case !b.reaches(r, r.AccountID):
		return AccountNotFound
	case c.ToAccountID == r.AccountID:
		return SameAccount
	}
	if payee, ok := b.accounts[c.ToAccountID]; !ok || !r.of(payee.Tenant) { // its owner may be anybody
		return AccountNotFound
	}
	return b.spend(op, r, c)
}

// to is the payee's balance, which may be in another lane.
func (c Transfer) to() Key { return Key{c.ToAccountID, c.Currency, contract.Lane(c.ToAccountID)} }

func (c Transfer) from(r Request) Key        { return r.balance(c.Currency) }
func (Transfer) patient() bool               { return false }
func (Transfer) deadline(r Request) deadline { return deadline{from: r.ReceivedAt} }

func (c Transfer) take(b *Book, op *Operation, r Request) Reason {
	return b.move(op, c.from(r), c.to())
}
