package main

import "github.com/altyn-pay/altyn/payments/internal/ledger"

// discardable tells whether an operator may discard a message of a kind. What no client has asked for may not be: the money
// that a cancellation or an expiry frees, or that word of the inventory or a credit moves on, would stay where it is.
func discardable(kind string) bool {
	switch ledger.Kind(kind) {
	case ledger.Cancel, ledger.Expire, ledger.Inventory, ledger.Resume:
		return false
	}
	return true
}
