package billing

import (
	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/identity"
)

// scopes is the one table of what a command needs, by whichever door it comes.
var scopes = map[ledger.Kind]identity.Scope{
	ledger.KindCreateAccount:   identity.AccountsWrite,
	ledger.KindDeposit:         identity.MoneyIn,
	ledger.KindWithdrawal:      identity.MoneyOut,
	ledger.KindTransfer:        identity.MoneyOut,
	ledger.KindHoldFunds:       identity.MoneyOut,
	ledger.KindCapture:         identity.MoneyOut,
	ledger.KindRelease:         identity.MoneyOut,
	ledger.KindCancelOperation: identity.MoneyOut,
	ledger.KindBalanceQuery:    identity.AccountsRead,
	ledger.KindConfirm:         identity.PaymentsWrite,
	ledger.KindReject:          identity.PaymentsWrite,
	ledger.KindRefund:          identity.PaymentsWrite,
}

// AnyCommand is what a batch of commands needs; each of them needs its own Scope.
var AnyCommand = identity.AnyOf(identity.AccountsWrite, identity.MoneyIn, identity.MoneyOut)

// Scope is what a client needs for a command. No scope allows what no client may ask for.
func Scope(kind ledger.Kind) identity.Scope { return scopes[kind] }
