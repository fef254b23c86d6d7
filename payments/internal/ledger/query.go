package ledger

// KindBalanceQuery is the kind of BalanceQuery.
const KindBalanceQuery Kind = "balance"

// BalanceQuery asks for the balances of an account in the order of its queue. Whoever applies the batch reads them
// from the book at that point. It changes nothing and leaves no record.
type BalanceQuery struct{}

func (BalanceQuery) kind() Kind { return KindBalanceQuery }

func (BalanceQuery) needs(_ *Book, r Request, n *Needs) {
	n.account(r.AccountID)
	n.Whole = append(n.Whole, r.AccountID)
}

// KindRefusal is the kind of Refusal.
const KindRefusal Kind = "refusal"

// Refusal stands for a command that cannot be understood. It changes nothing and leaves no record. It is in the queue
// to be answered in its turn; its Reply says why it is refused.
type Refusal struct{}

func (Refusal) kind() Kind { return KindRefusal }

func (Refusal) needs(*Book, Request, *Needs) {}
