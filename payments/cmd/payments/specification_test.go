package main

import (
	"testing"

	"github.com/altyn-pay/altyn/platform/swaggertest"
)

// No parameter of any call can be forged into a fault, and there are none but the documented ones.
func TestParameters(t *testing.T) {
	b := setup(t, "all")
	account := b.account("100.00").String()
	t.Run("walk", func(t *testing.T) {
		swaggertest.CheckParameters(t, swaggertest.Load(t, document()), b.url, func(*swaggertest.Operation, string) string { return account })
	})
}
