package contract_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
)

// A derived ID must never change: it is what makes a request repeated years later the same request.
func TestDerivedIDsArePinned(t *testing.T) {
	account := uuid.MustParse("01890a5d-ac96-774b-bcce-b302099a8057")
	for want, got := range map[string]uuid.UUID{
		"1f08300b-015c-5b00-9f03-4db311bc5a8b": contract.DerivedID("/api/v1/orders", account, "key-1"),
		"1eff31ce-eaa7-5ce1-82cb-5aa8030f9872": contract.EventID(contract.PaymentSucceededType, account, 1),
	} {
		if got.String() != want || got.Version() != 5 {
			t.Errorf("derived %s (version %d), want %s", got, got.Version(), want)
		}
	}
}

func TestDerivedIDsDoNotCollide(t *testing.T) {
	a, b := uuid.New(), uuid.New()
	seen := map[uuid.UUID]string{}
	for _, scope := range []string{"/api/v1/orders", "/api/v1/order", "billing.commands"} {
		for _, account := range []uuid.UUID{a, b} {
			for _, key := range []string{"1", "s1", ""} {
				id, name := contract.DerivedID(scope, account, key), scope+account.String()+key
				if other, ok := seen[id]; ok {
					t.Errorf("%s and %s have the same ID", name, other)
				}
				seen[id] = name
			}
		}
	}
}

func TestCheckText(t *testing.T) {
	for text, ok := range map[string]bool{
		"": true, strings.Repeat("я", 10): true, strings.Repeat("я", 11): false, "a\x00b": false, "a\xff": false,
		"line\nbreak": true,
	} {
		if err := contract.CheckText(text, 10); (err == nil) != ok {
			t.Errorf("CheckText(%q) = %v", text, err)
		}
	}
}
