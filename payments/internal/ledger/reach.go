package ledger

import (
	"cmp"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/identity"
)

// Reaches tells whether the account of a request is there for the one who asks: an account of another tenant, or of
// another owner than the request is restricted to, is not.
func (b *Book) Reaches(r Request) bool { return b.reaches(r, r.AccountID) }

func (b *Book) reaches(r Request, account uuid.UUID) bool {
	a, ok := b.accounts[account]
	return ok && r.By.Covers(a.Tenant, a.Owner)
}

// Strange is for what requests name and may not know of. It adds to their Needs all of such an account, although the
// book has it: it is looked up like one that is not there, so that it takes as long. It returns the requests that are
// not about such an account. What no client asks for acts for the account's own tenant.
func (b *Book) Strange(requests []Request, n Needs) (others []Request) {
	others = requests
	for i, r := range requests {
		if c, ok := r.Command.(Transfer); ok && b.foreign(r, c.ToAccountID) {
			n.Accounts[c.ToAccountID] = true
		}
		a, known := b.accounts[r.AccountID]
		if !known || kinds[r.Kind()].internal || r.By.Covers(a.Tenant, a.Owner) {
			if len(others) < len(requests) {
				others = append(others, r)
			}
			continue
		}
		if len(others) == len(requests) {
			others = append(make([]Request, 0, len(requests)), requests[:i]...)
		}
		if _, needed := n.Accounts[r.AccountID]; needed {
			n.Accounts[r.AccountID] = true
		}
	}
	return others
}

// foreign tells whether an account is known to be another tenant's than the request's.
func (b *Book) foreign(r Request, account uuid.UUID) bool {
	a, known := b.accounts[account]
	return known && !r.of(a.Tenant)
}

// of tells whether a request is of a tenant.
func (r Request) of(tenant string) bool { return sameTenant(r.By.Tenant, tenant) }

func sameTenant(a, b string) bool {
	return cmp.Or(a, identity.DefaultTenant) == cmp.Or(b, identity.DefaultTenant)
}
