package ledger

import "time"

// KindWithdrawal is the kind of Withdrawal.
const KindWithdrawal Kind = "withdraw"

// Withdrawal takes money out of an account and out of Altyn.
type Withdrawal struct {
	Currency    string        `json:"currency,omitempty"`
	Amount      int64         `json:"amount,omitempty"`
	ExpiresIn   time.Duration `json:"expires_in,omitempty"` // how long it waits for money at most; 0 is FundsExpiry
	Reference   string        `json:"reference,omitempty"`
	Description string        `json:"description,omitempty"`
	// WaitForFunds has it wait for money that is not there, instead of failing.
	WaitForFunds bool `json:"wait_for_funds,omitempty"`
}

func (Withdrawal) kind() Kind { return KindWithdrawal }

func (c Withdrawal) needs(_ *Book, r Request, n *Needs) {
	own := c.from(r)
	n.spends(own, own.beside(External))
	if c.WaitForFunds {
		n.gives(own) // its row counts what waits
	}
}

func (c Withdrawal) operation() Operation {
	return Operation{
		Kind: KindWithdrawal, Currency: c.Currency, Amount: c.Amount, Reference: c.Reference, Description: c.Description,
	}
}

func (c Withdrawal) settle(b *Book, op *Operation, r Request) Reason {
	if !b.reaches(r, r.AccountID) {
		return AccountNotFound
	}
	return b.spend(op, r, c)
}

func (c Withdrawal) from(r Request) Key { return r.balance(c.Currency) }
func (c Withdrawal) patient() bool      { return c.WaitForFunds }
func (c Withdrawal) deadline(r Request) deadline {
	return deadline{from: r.ReceivedAt, in: c.ExpiresIn}
}

func (c Withdrawal) take(b *Book, op *Operation, r Request) Reason {
	own := c.from(r)
	return b.move(op, own, own.beside(External))
}
