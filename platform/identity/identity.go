package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"
)

// Bounds in characters.
const (
	MaxTenant  = 64
	MaxSubject = 200
)

// DefaultTenant is that of everything where there are no tenants, and of what was stored before there were any.
const DefaultTenant = "default"

// Identity is who asks. The zero Identity is nobody and may do nothing.
type Identity struct {
	Tenant  string
	Subject string // the token's sub; "" of Everyone
	Scopes  Scopes
	Expires time.Time // of the token; zero where it never does
}

// Everyone is who asks where nobody is told apart: the default tenant with all rights.
var Everyone = Identity{Tenant: DefaultTenant, Scopes: everything()}

// ErrUnauthenticated says that nobody is known to ask: 401.
var ErrUnauthenticated = errors.New("the request has no identity")

// MissingScope says what the one who asks may not do: 403.
type MissingScope struct{ Scope Scope }

func (e *MissingScope) Error() string {
	if list := e.Scope.List(); len(list) > 1 {
		return fmt.Sprintf("the token has none of the scopes %s", e.Scope)
	}
	return fmt.Sprintf("the token lacks the scope %s", e.Scope)
}

// Reach returns what the identity reaches by a scope. A scope without the ending .own wins over one with it. The error
// is ErrUnauthenticated or a *MissingScope.
//
// For Anyone, and for AnyOf, it is the narrowest: what is the subject's own.
func (i Identity) Reach(scope Scope) (Reach, error) {
	switch {
	case i.Tenant == "" || scope == Public:
		return Reach{}, ErrUnauthenticated
	case scope == Anyone:
		return Reach{Tenant: i.Tenant, Owner: i.Subject}, nil
	}
	if list := scope.List(); len(list) > 1 {
		for _, one := range list {
			if _, err := i.Reach(one); err == nil {
				return Reach{Tenant: i.Tenant, Owner: i.Subject}, nil
			}
		}
		return Reach{}, &MissingScope{scope}
	}
	whole, restricted := i.Scopes.has(scope)
	switch {
	case whole:
		return Reach{Tenant: i.Tenant}, nil
	case restricted && i.Subject != "": // "" would be no restriction
		return Reach{Tenant: i.Tenant, Owner: i.Subject}, nil
	}
	return Reach{}, &MissingScope{scope}
}

type identityKey struct{}

// NewContext returns a context of what i asks for.
func NewContext(ctx context.Context, i Identity) context.Context {
	return context.WithValue(ctx, identityKey{}, i)
}

// FromContext returns who asks, or nobody.
func FromContext(ctx context.Context) Identity {
	i, _ := ctx.Value(identityKey{}).(Identity)
	return i
}

// UntilExpired returns a context that also ends when the token of who asks expires, for what goes on after the request
// was judged: a stream, a wait.
func UntilExpired(ctx context.Context) (context.Context, context.CancelFunc) {
	if expires := FromContext(ctx).Expires; !expires.IsZero() {
		return context.WithDeadline(ctx, expires)
	}
	return context.WithCancel(ctx)
}

var tenant = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// CheckTenant returns what is wrong with the name of a tenant. It becomes a part of the names of topics, and the dot
// after it must tell where it ends.
func CheckTenant(name string) error {
	if len(name) > MaxTenant || !tenant.MatchString(name) {
		return fmt.Errorf("must have 1 to %d characters, letters and digits of ASCII, _ and - only", MaxTenant)
	}
	return nil
}

// CheckSubject returns what is wrong with a subject: it is stored, and compared with the owners of accounts.
func CheckSubject(name string) error {
	switch {
	case name == "" || utf8.RuneCountInString(name) > MaxSubject:
		return fmt.Errorf("must have 1 to %d characters", MaxSubject)
	case !utf8.ValidString(name) || strings.IndexByte(name, 0) >= 0:
		return errors.New("must be UTF-8 without the character U+0000")
	}
	return nil
}

// identityJSON is an Identity as it travels with a message that is not judged at once. When the token ends does not: it
// was judged when it came.
type identityJSON struct {
	Tenant  string `json:"tenant"`
	Subject string `json:"sub,omitempty"`
	Scope   string `json:"scope,omitempty"`
}

// MarshalJSON writes who it is by the claims of a token.
func (i Identity) MarshalJSON() ([]byte, error) {
	return json.Marshal(identityJSON{i.Tenant, i.Subject, i.Scopes.String()})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (i *Identity) UnmarshalJSON(text []byte) error {
	var in identityJSON
	if err := json.Unmarshal(text, &in); err != nil {
		return err
	}
	if err := CheckTenant(in.Tenant); err != nil {
		return fmt.Errorf("tenant %w", err)
	}
	if in.Subject != "" {
		if err := CheckSubject(in.Subject); err != nil {
			return fmt.Errorf("sub %w", err)
		}
	}
	*i = Identity{Tenant: in.Tenant, Subject: in.Subject, Scopes: ParseScopes(strings.Fields(in.Scope)...)}
	return nil
}
