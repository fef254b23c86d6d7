package billing_test

import (
	"cmp"
	"testing"

	"github.com/altyn-pay/altyn/payments/internal/billing"
	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
)

// What a client may ask for needs a scope, and nobody has one for what only Altyn itself may ask for.
func TestEveryCommandNeedsAScope(t *testing.T) {
	kinds := map[string]ledger.Kind{contract.Invoice: ledger.KindDeposit, "cancel": ledger.KindCancelOperation}
	for _, operation := range contract.Operations() {
		kind := cmp.Or(kinds[operation], ledger.Kind(operation))
		if scope := billing.Scope(kind); len(scope.List()) != 1 || !scope.HasOwn() {
			t.Errorf("%s needs %q", operation, scope)
		}
	}
	for _, kind := range []ledger.Kind{ledger.KindPayment, ledger.KindCancel, ledger.KindInventory, ledger.KindExpire,
		ledger.KindResume, ledger.KindRefusal} {
		if _, err := identity.Everyone.Reach(billing.Scope(kind)); err == nil {
			t.Errorf("a client may ask for %s", kind)
		}
	}
}
