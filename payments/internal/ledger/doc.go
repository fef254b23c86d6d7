// Package ledger holds the rules by which money moves, and nothing else: no I/O, no clock, no randomness. A Book is
// loaded with the state that a batch of requests touches, the requests are applied one after another in memory, and the
// Book hands back what has changed:
//
//	book := ledger.NewBook(now, len(requests))
//	// put in what the database has of each request's References
//	needs := book.Needs(requests)
//	// lock needs.Balances and put them in, and needs.Accounts
//	for _, r := range requests {
//		book.Apply(r)
//	}
//	// store book.Changes()
//
// The ledger is double-entry. Every operation that succeeds writes entries whose amounts, actual and frozen together,
// sum to zero: what a client gains, another account loses. Money that enters or leaves Altyn, and money that is earned,
// has its other side in system accounts.
//
// # Commands
//
// A Request is a Command in an envelope. There is one type for each kind of command, in a file of its own, which says
// side by side what the command is, what it needs and what it does. To add one, write its file and add its line to the
// table kinds in request.go; nothing else here or in package postgres names kinds. Take a fee that is charged for
// something, as if it were not there yet:
//
//	const KindFee Kind = "fee"
//
//	// Fee charges an account. The tags are the stored JSON: they never change, and a field that is added is left out
//	// where it is zero, so that what is in flight can be read and fingerprints stay true.
//	type Fee struct {
//		Currency string `json:"currency,omitempty"`
//		Amount   int64  `json:"amount,omitempty"`
//	}
//
//	func (Fee) kind() Kind { return KindFee }
//
//	// It takes from the account and gives to what was earned. A balance that is given to must be a row.
//	func (c Fee) needs(_ *Book, r Request, n *Needs) {
//		own := r.balance(c.Currency)
//		n.spends(own, own.beside(Revenue))
//	}
//
//	func (c Fee) operation() Operation {
//		return Operation{Kind: KindFee, Currency: c.Currency, Amount: c.Amount}
//	}
//
//	// It returns why it cannot be done, and has changed nothing then; "" is success.
//	func (c Fee) settle(b *Book, op *Operation, r Request) Reason {
//		if !b.reaches(r, r.AccountID) {
//			return AccountNotFound
//		}
//		own := r.balance(c.Currency)
//		return b.move(op, own, own.beside(Revenue))
//	}
//
// As it stands a fee passes the queue of those that wait for money. With the methods of the interface debit and with
// b.spend in place of b.move it takes its turn there, as Withdrawal does. One that is about a hold, a payment or an
// operation that is there already has the method references, too. What remains is outside the rules: a way in
// for clients (contract.Command and the reader of commands) and, where the schema lists kinds, a migration.
package ledger
