package ledger

import (
	"time"

	"github.com/google/uuid"
)

// Account is a client of the ledger. Its balances are kept per currency.
type Account struct {
	ID        uuid.UUID `db:"id"`
	Lane      int16     `db:"lane"`
	Tenant    string    `db:"tenant"` // "" is the default one
	Owner     string    `db:"owner"`
	OwnerSalt uuid.UUID `db:"owner_salt"` // with which OwnerHash is made; whoever stores the account sets both
	OwnerHash uuid.UUID `db:"owner_hash"`
	Reference string    `db:"reference"`
	CreatedAt time.Time `db:"created_at"`
}

// KindCreateAccount is the kind of CreateAccount.
const KindCreateAccount Kind = "create_account"

// CreateAccount opens the request's account.
type CreateAccount struct {
	Owner     string `json:"owner,omitempty"`
	Reference string `json:"reference,omitempty"`
}

func (CreateAccount) kind() Kind { return KindCreateAccount }

// The answer to a creation, even to a repeated one, has all of the account.
func (CreateAccount) needs(_ *Book, r Request, n *Needs) { n.opens(r.AccountID) }

func (c CreateAccount) operation() Operation {
	return Operation{Kind: KindCreateAccount, Reference: c.Reference}
}

func (c CreateAccount) settle(b *Book, _ *Operation, r Request) Reason {
	// An ID is one account's, whoever has it: this is the one thing that a stranger can learn.
	if _, ok := b.accounts[r.AccountID]; ok {
		return AccountExists
	}
	account := Account{ID: r.AccountID, Lane: r.Lane, Tenant: r.By.Normal().Tenant, Owner: c.Owner,
		Reference: c.Reference, CreatedAt: b.Now}
	b.accounts[account.ID] = account
	b.changes.Accounts = append(b.changes.Accounts, account)
	return ""
}
