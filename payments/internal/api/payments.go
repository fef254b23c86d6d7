package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/payments/internal/wire"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/money"
	"github.com/altyn-pay/altyn/platform/outbox"
)

// Step is a step of an order's payment that somebody asks for, over whatever protocol.
type Step struct {
	Kind    ledger.Kind // ledger.Confirm, Reject or Refund
	OrderID uuid.UUID
	Amount  money.Decimal // of a Confirm or Refund; empty is all there is
	Reason  string        // of a Reject or Refund: the note
	Door    string        // where it came in: keys of different doors never collide
	Key     string        // the client's, which makes the step repeatable; or empty
	SentKey string        // see httpserver.SentKey
	Wait    time.Duration // how long to wait for the result; usually ResultWait
}

// StepResult is what became of a Step.
type StepResult struct {
	Payment   contract.Payment // in its present state
	Operation uuid.UUID        // by which the step moves money
	Pending   bool             // there is no result yet
	Replayed  bool             // the step was taken by an earlier request with the same key
}

// admit refuses a request of whose outcome orders is told, where the outbox has no room, unless it came with a key before.
func (a *API) admit(ctx context.Context, r ledger.Request, key string) error {
	if !a.full(r.Lane) {
		return nil
	}
	if key == "" {
		return outbox.ErrFull
	}
	_, err := a.door.operation(ctx, r.ID)
	if errors.Is(err, postgres.ErrNotFound) {
		return outbox.ErrFull
	}
	return err
}

// Step takes a step of an order's payment: a message in the inbox, like everything that moves money. A step that ended in
// error is a problem whose code is the reason, and the result tells whether it was replayed.
func (a *API) Step(ctx context.Context, s Step) (StepResult, error) {
	account, currency, err := a.store.PayerOf(ctx, s.OrderID)
	if err != nil {
		return StepResult{}, notFound(err, codePaymentNotFound)
	}
	request, err := a.reader.Step(s.Kind, s.OrderID, account, currency, s.Amount, s.Reason)
	if err != nil {
		return StepResult{}, err
	}
	if err := a.identify(ctx, &request, s.Door, s.Key, s.SentKey); err != nil {
		return StepResult{}, err
	}
	if err := a.admit(ctx, request, s.Key); err != nil {
		return StepResult{}, err
	}
	result, err := a.door.submit(ctx, request, patience{wait: s.Wait})
	if err != nil {
		return StepResult{}, err
	}
	out := StepResult{Operation: request.ID, Pending: result.operation.Status == ledger.Created, Replayed: result.replayed}
	if result.operation.Status == ledger.Error {
		return out, failure(result.operation)
	}
	if out.Payment, err = a.Payment(ctx, s.OrderID, 0); err != nil {
		return out, outcomeUnknown(ctx, request.ID, err)
	}
	return out, nil
}

// Payment is the payment of an order, at most so long after it is decided; a problem where there is none.
func (a *API) Payment(ctx context.Context, order uuid.UUID, wait time.Duration) (contract.Payment, error) {
	payment, err := a.door.payment(ctx, order, wait)
	if err != nil {
		return contract.Payment{}, notFound(err, codePaymentNotFound)
	}
	return wire.Payment(a.currencies, payment)
}

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

// step answers a request for a step of the payment in the path.
func (a *API) step(w http.ResponseWriter, r *http.Request, s Step) (err error) {
	if s.OrderID, err = httpserver.PathUUID(r, "order_id"); err != nil {
		return err
	}
	if s.Key, err = httpserver.IdempotencyKey(r.Header); err != nil {
		return err
	}
	patience, err := patienceOf(r)
	if err != nil {
		return err
	}
	s.Wait, s.Door, s.SentKey = patience.wait, door(r), httpserver.SentKey(r.Header)
	result, err := a.Step(r.Context(), s)
	if result.Replayed {
		w.Header().Set("Idempotent-Replayed", "true")
	}
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
//	@Produce	json
//	@Param		order_id	path		string	true	"ID of the order"	format(uuid)
//	@Param		wait		query		string	false	"wait so long for it to be decided, at most 30s"	example(5s)
//	@Success	200			{object}	contract.Payment
//	@Failure	400			{object}	httpserver.Problem
//	@Failure	404			{object}	httpserver.Problem	"payment_not_found"
//	@Router		/api/v1/payments/{order_id} [get]
func (a *API) getPayment(w http.ResponseWriter, r *http.Request) error {
	id, err := httpserver.PathUUID(r, "order_id")
	if err != nil {
		return err
	}
	wait, _, err := httpserver.Wait(r)
	if err != nil {
		return err
	}
	body, err := a.Payment(r.Context(), id, wait)
	if err != nil {
		return err
	}
	return httpserver.WriteJSON(w, http.StatusOK, body)
}

// confirm captures what is held for an order.
//
//	@ID				confirmPayment
//	@Summary		Confirm a payment that is authorized, whole or in part
//	@Description	What was held is captured; the rest goes back to the client. The order becomes paid.
//	@Tags			payments
//	@Accept			json
//	@Produce		json
//	@Param			order_id		path		string			true	"ID of the order"	format(uuid)
//	@Param			request			body		ConfirmPayment	false	"the amount; default: all that is held"
//	@Param			Idempotency-Key	header		string			false	"1–255 characters; the same key with the same request is the same step"
//	@Param			wait			query		string			false	"wait so long for the result, at most 30s"	example(5s)
//	@Success		200				{object}	contract.Payment
//	@Success		202				{object}	contract.Payment	"no result yet; Location names the operation"
//	@Failure		400				{object}	httpserver.Problem
//	@Failure		404				{object}	httpserver.Problem	"payment_not_found"
//	@Failure		413				{object}	httpserver.Problem
//	@Failure		415				{object}	httpserver.Problem
//	@Failure		422				{object}	httpserver.Problem	"payment_not_authorized, amount_exceeds_hold, balance_too_large, discarded, idempotency_key_reused"
//	@Failure		503				{object}	httpserver.Problem	"unavailable, overloaded, or outcome_unknown: Location names the operation"
//	@Router			/api/v1/payments/{order_id}/confirm [post]
func (a *API) confirm(w http.ResponseWriter, r *http.Request) error {
	var body ConfirmPayment
	if err := httpserver.DecodeOptionalJSON(w, r, &body); err != nil {
		return err
	}
	return a.step(w, r, Step{Kind: ledger.Confirm, Amount: body.Amount})
}

// reject releases what is held for an order.
//
//	@ID				rejectPayment
//	@Summary		Reject a payment that is authorized
//	@Description	What was held goes back to the client. The order becomes failed, with the reason rejected.
//	@Tags			payments
//	@Accept			json
//	@Produce		json
//	@Param			order_id		path		string			true	"ID of the order"	format(uuid)
//	@Param			request			body		RejectPayment	false	"why; it is kept as the note"
//	@Param			Idempotency-Key	header		string			false	"1–255 characters; the same key with the same request is the same step"
//	@Param			wait			query		string			false	"wait so long for the result, at most 30s"	example(5s)
//	@Success		200				{object}	contract.Payment
//	@Success		202				{object}	contract.Payment	"no result yet; Location names the operation"
//	@Failure		400				{object}	httpserver.Problem
//	@Failure		404				{object}	httpserver.Problem	"payment_not_found"
//	@Failure		413				{object}	httpserver.Problem
//	@Failure		415				{object}	httpserver.Problem
//	@Failure		422				{object}	httpserver.Problem	"payment_not_authorized, discarded, idempotency_key_reused"
//	@Failure		503				{object}	httpserver.Problem	"unavailable, overloaded, or outcome_unknown: Location names the operation"
//	@Router			/api/v1/payments/{order_id}/reject [post]
func (a *API) reject(w http.ResponseWriter, r *http.Request) error {
	var body RejectPayment
	if err := httpserver.DecodeOptionalJSON(w, r, &body); err != nil {
		return err
	}
	return a.step(w, r, Step{Kind: ledger.Reject, Reason: body.Reason})
}

// refund returns what was captured of an order.
//
//	@ID				refundPayment
//	@Summary		Refund a payment, whole or in parts
//	@Description	Never more than was captured. The order stays paid and shows the refunded amount.
//	@Tags			payments
//	@Accept			json
//	@Produce		json
//	@Param			order_id		path		string			true	"ID of the order"	format(uuid)
//	@Param			request			body		RefundPayment	false	"the amount, by default all that is left of what was captured, and why"
//	@Param			Idempotency-Key	header		string			false	"1–255 characters; the same key with the same request is the same step"
//	@Param			wait			query		string			false	"wait so long for the result, at most 30s"	example(5s)
//	@Success		200				{object}	contract.Payment
//	@Success		202				{object}	contract.Payment	"no result yet; Location names the operation"
//	@Failure		400				{object}	httpserver.Problem
//	@Failure		404				{object}	httpserver.Problem	"payment_not_found"
//	@Failure		413				{object}	httpserver.Problem
//	@Failure		415				{object}	httpserver.Problem
//	@Failure		422				{object}	httpserver.Problem	"payment_not_captured, amount_exceeds_captured, too_many_refunds, balance_too_large, discarded, idempotency_key_reused"
//	@Failure		503				{object}	httpserver.Problem	"unavailable, overloaded, or outcome_unknown: Location names the operation"
//	@Router			/api/v1/payments/{order_id}/refund [post]
func (a *API) refund(w http.ResponseWriter, r *http.Request) error {
	var body RefundPayment
	if err := httpserver.DecodeOptionalJSON(w, r, &body); err != nil {
		return err
	}
	return a.step(w, r, Step{Kind: ledger.Refund, Amount: body.Amount, Reason: body.Reason})
}
