package identity

import (
	"slices"
	"strings"
)

// Scope is a right that a token gives, or what a route needs.
type Scope string

// The scopes. All but InventoryWrite and Operator may come with the ending .own, which restricts them to what is the
// token's subject's.
const (
	OrdersRead     Scope = "orders:read"     // read orders and follow them
	OrdersWrite    Scope = "orders:write"    // place and cancel orders
	AccountsRead   Scope = "accounts:read"   // read accounts, balances, statements, holds and operations
	AccountsWrite  Scope = "accounts:write"  // open accounts
	MoneyIn        Scope = "money:in"        // deposit
	MoneyOut       Scope = "money:out"       // withdraw, transfer, hold, capture and release, and cancel what waits
	PaymentsRead   Scope = "payments:read"   // read the payments of orders
	PaymentsWrite  Scope = "payments:write"  // confirm, reject and refund them
	InventoryWrite Scope = "inventory:write" // tell what became of an order's goods
	Operator       Scope = "operator"        // use the operators' plane
)

// What a route may need in place of a scope.
const (
	// Public is for what needs no token, such as health and documents. Nothing can be reached by it.
	Public Scope = ""
	// Anyone is for what any valid token may see, whatever its scopes.
	Anyone Scope = "any valid token"
)

// scopes lists every scope; a scope's place is that of its bits in Scopes.
var scopes = []Scope{OrdersRead, OrdersWrite, AccountsRead, AccountsWrite, MoneyIn, MoneyOut, PaymentsRead,
	PaymentsWrite, InventoryWrite, Operator}

// All returns every scope.
func All() []Scope { return slices.Clone(scopes) }

// own is the ending of a restricted scope.
const own = ".own"

// HasOwn reports whether the scope may come with the ending .own.
func (s Scope) HasOwn() bool {
	return s != InventoryWrite && s != Operator && slices.Contains(scopes, s)
}

// AnyOf is what a route needs that one of these scopes opens, such as a batch whose items have a scope each. Such a
// route has no Reach of its own: its items ask for theirs.
func AnyOf(scopes ...Scope) Scope {
	texts := make([]string, len(scopes))
	for i, scope := range scopes {
		texts[i] = string(scope)
	}
	return Scope(strings.Join(texts, " "))
}

// List returns the scopes of which one suffices: several for AnyOf, none for Public and Anyone.
func (s Scope) List() []Scope {
	if s == Public || s == Anyone {
		return nil
	}
	var list []Scope
	for text := range strings.SplitSeq(string(s), " ") {
		list = append(list, Scope(text))
	}
	return list
}

// Scopes is a set of scopes, with or without the ending .own.
type Scopes uint32

// ParseScopes reads the scopes of a token. Those that Altyn does not know, such as openid, are left out.
func ParseScopes(texts ...string) Scopes {
	var set Scopes
	for _, text := range texts {
		name, restricted := strings.CutSuffix(text, own)
		i := slices.Index(scopes, Scope(name))
		switch {
		case i < 0:
		case !restricted:
			set |= full(i)
		case Scope(name).HasOwn():
			set |= full(i) << 1
		}
	}
	return set
}

// full is the bit of a scope without restriction; that of its .own follows.
func full(i int) Scopes { return 1 << (2 * i) }

// everything is all scopes without restriction.
func everything() (set Scopes) {
	for i := range scopes {
		set |= full(i)
	}
	return set
}

// has tells whether a scope is in the set, as it is and as its .own.
func (s Scopes) has(scope Scope) (whole, restricted bool) {
	i := slices.Index(scopes, scope)
	if i < 0 {
		return false, false
	}
	return s&full(i) != 0, s&(full(i)<<1) != 0
}

// String lists the scopes as a token does.
func (s Scopes) String() string {
	var texts []string
	for _, scope := range scopes {
		whole, restricted := s.has(scope)
		if whole {
			texts = append(texts, string(scope))
		}
		if restricted {
			texts = append(texts, string(scope)+own)
		}
	}
	return strings.Join(texts, " ")
}
