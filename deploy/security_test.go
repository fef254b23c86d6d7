package deploy

import (
	"slices"
	"testing"

	"github.com/altyn-pay/altyn/platform/identity"
)

// docs/security.md lists the scopes that there are, and says which of them may come with the ending .own.
func TestScopesAreDocumented(t *testing.T) {
	const page = "../docs/security.md"
	var restricted, whole []string
	for _, scope := range identity.All() {
		if scope.HasOwn() {
			restricted = append(restricted, string(scope))
		} else {
			whole = append(whole, string(scope))
		}
	}
	for end, want := range map[string][]string{"yes": restricted, "no": whole} {
		slices.Sort(want)
		if got := named(t, "(?m)^\\| `([a-z]+:?[a-z]*)` \\| .* \\| "+end+" \\|$", page); !slices.Equal(got, want) {
			t.Errorf("%s has with .own %q: %v, the code %v", page, end, got, want)
		}
	}
}
