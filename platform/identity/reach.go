package identity

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
)

// Reach is what a request may touch: the accounts of a tenant and what is about them, or, where there is an Owner,
// only those of that owner.
//
// In JSON the default tenant and a missing owner are left out, so that what was stored before there were tenants
// reads as the default tenant's, without restriction. A field of this type takes omitzero.
type Reach struct {
	Tenant string // "" is the default tenant; see Normal
	Owner  string // "" for no restriction
}

// Default is the reach of what has no identity of its own: the default tenant, without restriction.
var Default = Reach{Tenant: DefaultTenant}

// Normal returns the reach with its tenant named. Two reaches are the same if their normal forms are equal.
func (r Reach) Normal() Reach {
	r.Tenant = cmp.Or(r.Tenant, DefaultTenant)
	return r
}

// IsZero reports whether the reach is Default.
func (r Reach) IsZero() bool { return r.Normal() == Default }

// Covers reports whether what a tenant and an owner have is in reach.
func (r Reach) Covers(tenant, owner string) bool {
	return cmp.Or(tenant, DefaultTenant) == r.Normal().Tenant && (r.Owner == "" || r.Owner == owner)
}

// Namespace begins each text from which an ID is derived that belongs to who asks: keys of one tenant are not those of
// another, nor are those of a token that is restricted to its subject. It is "" for Default, so that IDs derived before
// there were tenants stay as they are; any other one begins with U+0000, as no such text did.
func (r Reach) Namespace() string {
	if r.IsZero() {
		return ""
	}
	return "\x00" + r.Normal().Tenant + "\x00" + r.Owner + "\x00"
}

// reachJSON is Reach as it is stored.
type reachJSON struct {
	Tenant string `json:"tenant,omitempty"`
	Owner  string `json:"owner,omitempty"`
}

// MarshalJSON leaves out what is as in Default.
func (r Reach) MarshalJSON() ([]byte, error) {
	out := reachJSON(r)
	if out.Tenant == DefaultTenant {
		out.Tenant = ""
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads what MarshalJSON wrote, in its normal form.
func (r *Reach) UnmarshalJSON(text []byte) error {
	var in reachJSON
	if err := json.Unmarshal(text, &in); err != nil {
		return err
	}
	if in.Tenant != "" {
		if err := CheckTenant(in.Tenant); err != nil {
			return fmt.Errorf("tenant %w", err)
		}
	}
	*r = Reach(in).Normal()
	return nil
}

type reachKey struct{}

// WithReach returns a context of a request that may touch r.
func WithReach(ctx context.Context, r Reach) context.Context {
	return context.WithValue(ctx, reachKey{}, r)
}

// ReachFrom returns what the request may touch. It panics where nobody has judged the request: such a handler is not
// mounted as a route with a scope, and must not be served.
func ReachFrom(ctx context.Context) Reach {
	r, ok := ctx.Value(reachKey{}).(Reach)
	if !ok {
		panic("identity: the request was not judged by a route's scope")
	}
	return r
}
