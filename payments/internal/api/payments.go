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

// ConfirmPayment asks for what is held to be captured.
type ConfirmPayment struct {
	Amount money.Decimal `json:"amount,omitempty" swaggertype:"string" example:"1800.00"` // default: all that is held
} // @name ConfirmPayment

// RejectPayment asks for what is held to be released.
type RejectPayment struct {
	Reason string `json:"reason,omitempty" example:"the buyer has changed her mind" maxLength:"200"`
} // @name RejectPayment

// RefundPayment asks for what was captured to be returned.
type RefundPayment struct {
	Amount money.Decimal `json:"amount,omitempty" swaggertype:"string" example:"700.00"` // default: all that is left of it
	Reason string        `json:"reason,omitempty" example:"one ticket was returned" maxLength:"200"`
} // @name RefundPayment

// step takes a step of the payment in the path.
func (a *API) step(w http.ResponseWriter, r *http.Request, step billing.Step) error {
	id, err := httpserver.PathUUID(r, "order_id")
	if err != nil {
		return err
	}
	call, err := callOf(r)
	if err != nil {
		return err
	}
	step.OrderID = id
	result, err := a.billing.Step(r.Context(), step, call)
	tellReplayed(w, result.Replayed)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if result.Pending {
		status = http.StatusAccepted
		w.Header().Set("Location", operationPath+result.Operation.String())
	}
	return httpserver.WriteJSON(w, status, result.Payment)
}

// getPayment looks the payment of an order up.
//
//	@ID			getPayment
//	@Summary	Look at the payment of an order
//	@Tags		payments
//	@Param		order_id	path		string	true	"ID of the order"	format(uuid)
//	@Param		wait		query		string	false	"wait so long for it to be decided, at most 30s"	example(5s)
//	@Success	200			{object}	contract.Payment
//	@Failure	404			{object}	httpserver.Problem	"payment_not_found"
//	@Router		/api/v1/payments/{order_id} [get]
func (a *API) getPayment(w http.ResponseWriter, r *http.Request) error {
	return get(w, r, "order_id", func(ctx context.Context, by identity.Reach, id uuid.UUID) (contract.Payment, error) {
		wait, _, err := httpserver.Wait(r)
		if err != nil {
			return contract.Payment{}, err
		}
		return a.billing.Payment(ctx, by, id, wait)
	})
}

// confirm captures what is held for an order.
//
//	@ID				confirmPayment
//	@Summary		Confirm a payment that is authorized, whole or in part
//	@Description	What was held is captured; the rest goes back to the client. The order becomes paid.
//	@Tags			payments
//	@Param			order_id		path		string			true	"ID of the order"	format(uuid)
//	@Param			request			body		ConfirmPayment	false	"the amount; default: all that is held"
//	@Param			Idempotency-Key	header		string			false	"1–255 characters; the same key with the same request is the same step"
//	@Param			wait			query		string			false	"wait so long for the result, at most 30s"	example(5s)
//	@Success		200				{object}	contract.Payment
//	@Success		202				{object}	contract.Payment	"no result yet; Location names the operation"
//	@Failure		404				{object}	httpserver.Problem	"payment_not_found"
//	@Failure		422				{object}	httpserver.Problem	"payment_not_authorized, amount_exceeds_hold, balance_too_large, discarded, idempotency_key_reused"
//	@Router			/api/v1/payments/{order_id}/confirm [post]
func (a *API) confirm(w http.ResponseWriter, r *http.Request) error {
	var body ConfirmPayment
	if err := httpserver.DecodeOptionalJSON(w, r, &body); err != nil {
		return err
	}
	return a.step(w, r, billing.Step{Kind: ledger.KindConfirm, Amount: body.Amount})
}

// reject releases what is held for an order.
//
//	@ID				rejectPayment
//	@Summary		Reject a payment that is authorized
//	@Description	What was held goes back to the client. The order becomes failed, with the reason rejected.
//	@Tags			payments
//	@Param			order_id		path		string			true	"ID of the order"	format(uuid)
//	@Param			request			body		RejectPayment	false	"why; it is kept as the note"
//	@Param			Idempotency-Key	header		string			false	"1–255 characters; the same key with the same request is the same step"
//	@Param			wait			query		string			false	"wait so long for the result, at most 30s"	example(5s)
//	@Success		200				{object}	contract.Payment
//	@Success		202				{object}	contract.Payment	"no result yet; Location names the operation"
//	@Failure		404				{object}	httpserver.Problem	"payment_not_found"
//	@Failure		422				{object}	httpserver.Problem	"payment_not_authorized, discarded, idempotency_key_reused"
//	@Router			/api/v1/payments/{order_id}/reject [post]
func (a *API) reject(w http.ResponseWriter, r *http.Request) error {
	var body RejectPayment
	if err := httpserver.DecodeOptionalJSON(w, r, &body); err != nil {
		return err
	}
	return a.step(w, r, billing.Step{Kind: ledger.KindReject, Reason: body.Reason})
}

// refund returns what was captured of an order.
//
//	@ID				refundPayment
//	@Summary		Refund a payment, whole or in parts
//	@Description	Never more than was captured. The order stays paid and shows the refunded amount.
//	@Tags			payments
//	@Param			order_id		path		string			true	"ID of the order"	format(uuid)
//	@Param			request			body		RefundPayment	false	"the amount, by default all that is left of what was captured, and why"
//	@Param			Idempotency-Key	header		string			false	"1–255 characters; the same key with the same request is the same step"
//	@Param			wait			query		string			false	"wait so long for the result, at most 30s"	example(5s)
//	@Success		200				{object}	contract.Payment
//	@Success		202				{object}	contract.Payment	"no result yet; Location names the operation"
//	@Failure		404				{object}	httpserver.Problem	"payment_not_found"
//	@Failure		422				{object}	httpserver.Problem	"payment_not_captured, amount_exceeds_captured, too_many_refunds, balance_too_large, discarded, idempotency_key_reused"
//	@Router			/api/v1/payments/{order_id}/refund [post]
func (a *API) refund(w http.ResponseWriter, r *http.Request) error {
	var body RefundPayment
	if err := httpserver.DecodeOptionalJSON(w, r, &body); err != nil {
		return err
	}
	return a.step(w, r, billing.Step{Kind: ledger.KindRefund, Amount: body.Amount, Reason: body.Reason})
}
