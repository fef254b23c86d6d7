package identity

import (
	"encoding/json"
	"fmt"
	"strings"
)

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
