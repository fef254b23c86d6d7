package api

import (
	"context"
	"net/http"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/billing"
	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/money"
)

// Amount asks for an amount of money to be moved.
type Amount struct {
	Amount      money.Decimal `json:"amount" swaggertype:"string" example:"777.00" validate:"required"`
	Currency    string        `json:"currency" example:"RUB" validate:"required"`
	Reference   string        `json:"reference,omitempty" maxLength:"200"`
	Description string        `json:"description,omitempty" maxLength:"1000"`
} // @name Amount

// NewHold asks for an amount of money to be set aside.
type NewHold struct {
	Amount
	ExpiresIn string `json:"expires_in,omitempty" example:"15m"` // from 1s to 8760h, default 168h
} // @name NewHold

// NewWithdrawal asks for money to be taken.
type NewWithdrawal struct {
	Amount
	// wait: for money, until expires_in
	OnInsufficient string `json:"on_insufficient,omitempty" enums:"reject,wait" default:"reject"`
	ExpiresIn      string `json:"expires_in,omitempty" example:"15m"` // from 1s to 720h, default 24h
} // @name NewWithdrawal

// NewTransfer asks for money to be moved between accounts.
type NewTransfer struct {
	FromAccountID *uuid.UUID `json:"from_account_id" swaggertype:"string" format:"uuid" validate:"required"`
	ToAccountID   *uuid.UUID `json:"to_account_id" swaggertype:"string" format:"uuid" validate:"required"`
	Amount
} // @name NewTransfer

// NewCapture asks for a hold to be captured.
type NewCapture struct {
	Amount money.Decimal `json:"amount,omitempty" swaggertype:"string" example:"50.00"` // default: the whole hold
} // @name NewCapture

func (m Amount) command(kind ledger.Kind, account *uuid.UUID) contract.Command {
	return contract.Command{Operation: string(kind), AccountID: account, Amount: m.Amount, Currency: m.Currency,
		Reference: m.Reference, Description: m.Description}
}

// deposit adds money to an account.
//
//	@ID				deposit
//	@Summary		Deposit money (an invoice)
//	@Description	Waits up to 5s for the result, or as long as ?wait= says; 202 where there is none yet.
//	@Tags			operations
//	@Param			id				path		string	true	"ID of the account"	format(uuid)	example(01a0a3c5-96a1-7c4e-8d7c-6a1f0e9f2b11)
//	@Param			request			body		Amount	true	"amount and currency"
//	@Param			Idempotency-Key	header		string	false	"1–255 characters; the same key with the same request is the same deposit"
//	@Param			wait			query		string	false	"wait so long for the result, at most 30s"	example(5s)
//	@Success		201				{object}	contract.Operation
//	@Success		202				{object}	contract.Operation	"not settled yet; Location names the operation"
//	@Failure		404				{object}	httpserver.Problem	"account_not_found"
//	@Failure		422				{object}	httpserver.Problem	"balance_too_large, cancelled, discarded, idempotency_key_reused"
//	@Router			/api/v1/accounts/{id}/deposits [post]
func (a *API) deposit(w http.ResponseWriter, r *http.Request) error {
	return submitBody(a, w, r, httpserver.DecodeJSON, func(id uuid.UUID, body Amount) contract.Command {
		return body.command(ledger.KindDeposit, &id)
	})
}

// withdraw takes money from an account.
//
//	@ID				withdraw
//	@Summary		Withdraw money
//	@Description	Waits up to 5s for the result, or as long as ?wait= says; 202 where there is none yet. With on_insufficient: wait, a
//	@Description	withdrawal of more than there is waits for money, and with it the later debits of the account in that currency; it is
//	@Description	created meanwhile, with the reason waiting_for_funds, and answers 202 at once.
//	@Tags			operations
//	@Param			id				path		string	true	"ID of the account"	format(uuid)	example(01a0a3c5-96a1-7c4e-8d7c-6a1f0e9f2b11)
//	@Param			request			body		NewWithdrawal	true	"amount and currency"
//	@Param			Idempotency-Key	header		string	false	"1–255 characters; the same key with the same request is the same withdrawal"
//	@Param			wait			query		string	false	"wait so long for the result, at most 30s"	example(5s)
//	@Success		201				{object}	contract.Operation
//	@Success		202				{object}	contract.Operation	"not settled yet; Location names the operation"
//	@Failure		404				{object}	httpserver.Problem	"account_not_found"
//	@Failure		422				{object}	httpserver.Problem	"insufficient_funds, expired, cancelled, discarded, idempotency_key_reused"
//	@Router			/api/v1/accounts/{id}/withdrawals [post]
func (a *API) withdraw(w http.ResponseWriter, r *http.Request) error {
	return submitBody(a, w, r, httpserver.DecodeJSON, func(id uuid.UUID, body NewWithdrawal) contract.Command {
		c := body.command(ledger.KindWithdrawal, &id)
		c.OnInsufficient, c.ExpiresIn = body.OnInsufficient, body.ExpiresIn
		return c
	})
}

// transfer moves money between accounts.
//
//	@ID				transfer
//	@Summary		Transfer money to another account
//	@Description	Counts in the payer's queue. Waits up to 5s for the result, or as long as ?wait= says; 202 where there is none yet.
//	@Tags			operations
//	@Param			request			body		NewTransfer	true	"payer, payee, amount and currency"
//	@Param			Idempotency-Key	header		string		false	"1–255 characters; the same key with the same request is the same transfer"
//	@Param			wait			query		string		false	"wait so long for the result, at most 30s"	example(5s)
//	@Success		201				{object}	contract.Operation
//	@Success		202				{object}	contract.Operation	"not settled yet; Location names the operation"
//	@Failure		404				{object}	httpserver.Problem	"account_not_found"
//	@Failure		422				{object}	httpserver.Problem	"insufficient_funds, expired, same_account, balance_too_large, cancelled, discarded, idempotency_key_reused"
//	@Router			/api/v1/transfers [post]
func (a *API) transfer(w http.ResponseWriter, r *http.Request) error {
	var body NewTransfer
	if err := httpserver.DecodeJSON(w, r, &body); err != nil {
		return err
	}
	c := body.command(ledger.KindTransfer, nil)
	c.FromAccountID, c.ToAccountID = body.FromAccountID, body.ToAccountID
	return a.submit(w, r, c)
}

// holdFunds sets money aside.
//
//	@ID				holdMoney
//	@Summary		Hold money: it moves from the actual to the frozen balance
//	@Description	The operation's ID names the hold. When it expires, the money is released.
//	@Tags			holds
//	@Param			id				path		string	true	"ID of the account"	format(uuid)	example(01a0a3c5-96a1-7c4e-8d7c-6a1f0e9f2b11)
//	@Param			request			body		NewHold	true	"amount and currency"
//	@Param			Idempotency-Key	header		string	false	"1–255 characters; the same key with the same request is the same hold"
//	@Param			wait			query		string	false	"wait so long for the result, at most 30s"	example(5s)
//	@Success		201				{object}	contract.Operation
//	@Success		202				{object}	contract.Operation	"not settled yet; Location names the operation"
//	@Failure		404				{object}	httpserver.Problem	"account_not_found"
//	@Failure		422				{object}	httpserver.Problem	"insufficient_funds, expired, cancelled, discarded, idempotency_key_reused"
//	@Router			/api/v1/accounts/{id}/holds [post]
func (a *API) holdFunds(w http.ResponseWriter, r *http.Request) error {
	return submitBody(a, w, r, httpserver.DecodeJSON, func(id uuid.UUID, body NewHold) contract.Command {
		c := body.command(ledger.KindHoldFunds, &id)
		c.ExpiresIn = body.ExpiresIn
		return c
	})
}

// getHold looks a hold up.
//
//	@ID			getHold
//	@Summary	Look at a hold
//	@Tags		holds
//	@Param		id	path		string	true	"ID of the hold"	format(uuid)
//	@Success	200	{object}	Hold
//	@Failure	404	{object}	httpserver.Problem	"hold_not_found"
//	@Router		/api/v1/holds/{id} [get]
func (a *API) getHold(w http.ResponseWriter, r *http.Request) error {
	return get(w, r, "id", func(ctx context.Context, by identity.Reach, id uuid.UUID) (Hold, error) {
		hold, err := a.store.Hold(ctx, by, id)
		if err != nil {
			return Hold{}, billing.NotFound(err, ledger.HoldNotFound)
		}
		return a.hold(hold)
	})
}

// capture takes the money of a hold.
//
//	@ID				captureHold
//	@Summary		Capture a hold, whole or in part
//	@Description	What is captured is earned; the rest of the hold is released.
//	@Tags			holds
//	@Param			id				path		string		true	"ID of the hold"	format(uuid)
//	@Param			request			body		NewCapture	false	"the amount; default: the whole hold"
//	@Param			Idempotency-Key	header		string		false	"1–255 characters"
//	@Param			wait			query		string		false	"wait so long for the result, at most 30s"	example(5s)
//	@Success		201				{object}	contract.Operation
//	@Success		202				{object}	contract.Operation	"not settled yet; Location names the operation"
//	@Failure		404				{object}	httpserver.Problem	"hold_not_found"
//	@Failure		422				{object}	httpserver.Problem	"hold_not_open, hold_of_order, amount_exceeds_hold, cancelled, discarded, idempotency_key_reused"
//	@Router			/api/v1/holds/{id}/capture [post]
func (a *API) capture(w http.ResponseWriter, r *http.Request) error {
	return submitBody(a, w, r, httpserver.DecodeOptionalJSON, func(id uuid.UUID, body NewCapture) contract.Command {
		return contract.Command{Operation: string(ledger.KindCapture), HoldID: &id, Amount: body.Amount}
	})
}

// release gives the money of a hold back.
//
//	@ID			releaseHold
//	@Summary	Release a hold: its money moves back to the actual balance
//	@Tags		holds
//	@Accept		json
//	@Param		id				path		string	true	"ID of the hold"	format(uuid)
//	@Param		Idempotency-Key	header		string	false	"1–255 characters"
//	@Param		wait			query		string	false	"wait so long for the result, at most 30s"	example(5s)
//	@Success	201				{object}	contract.Operation
//	@Success	202				{object}	contract.Operation	"not settled yet; Location names the operation"
//	@Failure	404				{object}	httpserver.Problem	"hold_not_found"
//	@Failure	422				{object}	httpserver.Problem	"hold_not_open, hold_of_order, cancelled, discarded, idempotency_key_reused"
//	@Router		/api/v1/holds/{id}/release [post]
func (a *API) release(w http.ResponseWriter, r *http.Request) error {
	return submitBody(a, w, r, httpserver.DecodeOptionalJSON, func(id uuid.UUID, _ struct{}) contract.Command {
		return contract.Command{Operation: string(ledger.KindRelease), HoldID: &id}
	})
}

// CancelOperation asks for an operation to be ended that has not taken effect.
type CancelOperation struct {
	Reason string `json:"reason,omitempty" example:"no longer needed" maxLength:"200"` // it becomes the operation's note
} // @name CancelOperation

// cancel ends an operation that has not taken effect.
//
//	@ID				cancelOperation
//	@Summary		Cancel an operation that is created: what waits for money waits no longer
//	@Description	It ends in error, with the reason cancelled; what waited behind it goes on. A cancellation takes its place in the account's
//	@Description	queue: what is ahead of it there, takes effect first. The payment of an order is cancelled with its order.
//	@Tags			operations
//	@Param			id				path		string			true	"ID of the operation"	format(uuid)
//	@Param			request			body		CancelOperation	false	"why; it is kept as the operation's note"
//	@Param			Idempotency-Key	header		string			false	"1–255 characters; the same key with the same request is the same cancellation"
//	@Param			wait			query		string			false	"wait so long for the result, at most 30s"	example(5s)
//	@Success		200				{object}	contract.Operation
//	@Header			200				{string}	Location			"where it is"
//	@Success		202				{object}	contract.Operation	"not settled yet; Location names the operation"
//	@Failure		404				{object}	httpserver.Problem	"operation_not_found"
//	@Failure		422				{object}	httpserver.Problem	"operation_final, operation_of_order, idempotency_key_reused"
//	@Router			/api/v1/operations/{id}/cancel [post]
func (a *API) cancel(w http.ResponseWriter, r *http.Request) error {
	return submitBody(a, w, r, httpserver.DecodeOptionalJSON, func(id uuid.UUID, body CancelOperation) contract.Command {
		return contract.Command{Operation: string(ledger.KindCancel), OperationID: &id, Reason: body.Reason}
	})
}

// getOperation looks an operation up.
//
//	@ID			getOperation
//	@Summary	Look at an operation
//	@Tags		operations
//	@Param		id		path		string	true	"ID of the operation"	format(uuid)
//	@Param		wait	query		string	false	"wait so long for it to be final, at most 30s"	example(5s)
//	@Success	200		{object}	contract.Operation
//	@Failure	404		{object}	httpserver.Problem	"operation_not_found"
//	@Router		/api/v1/operations/{id} [get]
func (a *API) getOperation(w http.ResponseWriter, r *http.Request) error {
	return get(w, r, "id", func(ctx context.Context, by identity.Reach, id uuid.UUID) (contract.Operation, error) {
		wait, _, err := httpserver.Wait(r)
		if err != nil {
			return contract.Operation{}, err
		}
		return a.billing.Operation(ctx, by, id, wait)
	})
}
