package ledger

// KindDeposit is the kind of Deposit.
const KindDeposit Kind = "deposit"

// Deposit brings money from outside into an account.
type Deposit struct {
	Currency    string `json:"currency,omitempty"`
	Amount      int64  `json:"amount,omitempty"`
	Reference   string `json:"reference,omitempty"`
	Description string `json:"description,omitempty"`
}

func (Deposit) kind() Kind { return KindDeposit }

func (c Deposit) needs(_ *Book, r Request, n *Needs) {
	own := r.balance(c.Currency)
	n.account(r.AccountID)
	n.gives(own)
	n.gives(own.beside(External))
}

func (c Deposit) operation() Operation {
	return Operation{
		Kind: KindDeposit, Currency: c.Currency, Amount: c.Amount, Reference: c.Reference, Description: c.Description,
	}
}

func (c Deposit) settle(b *Book, op *Operation, r Request) Reason {
	if !b.reaches(r, r.AccountID) {
		return AccountNotFound
	}
	own := r.balance(c.Currency)
	return b.move(op, own.beside(External), own)
}
