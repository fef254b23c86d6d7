package api

import (
	"context"
	"net/http"
	"slices"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/identity"
)

// text is a query parameter that is a text, and where it goes.
type text struct {
	name  string
	limit int
	to    *string
}

func texts(r *http.Request, of ...text) (err error) {
	for _, t := range of {
		if *t.to, err = httpserver.TextParam(r, t.name, t.limit); err != nil {
			return err
		}
	}
	return nil
}

// oneOf reads a query parameter with a closed list of values; "" when there is none.
func oneOf[T ~string](r *http.Request, name string, values ...T) (T, error) {
	value := T(r.URL.Query().Get(name))
	if value != "" && !slices.Contains(values, value) {
		return "", contract.Invalid(name, "must be one of %v", values)
	}
	return value, nil
}

// listOperations lists operations.
//
//	@ID				listOperations
//	@Summary		List operations, newest first
//	@Description	An index answers the order, else the reference, else the account; for others a page looks at no more than
//	@Description	10,000 operations: it may hold fewer than the limit, or none, and still have a next_cursor. What has been
//	@Description	accepted and waits in the queue is in no list.
//	@Description	With Accept: text/csv the whole list is streamed, without limit and cursor.
//	@Tags			operations
//	@Produce		json,text/csv,application/problem+json
//	@Param			order_id			query		string	false	"only those of this order"						format(uuid)
//	@Param			account_id			query		string	false	"only those that this account pays or is paid by"	format(uuid)
//	@Param			reference			query		string	false	"only with this reference"
//	@Param			reference_prefix	query		string	false	"only with a reference that begins so"
//	@Param			operation			query		string	false	"only of this kind"		Enums(create_account, deposit, withdraw, transfer, hold, capture, release, payment, refund)
//	@Param			status				query		string	false	"only with this status"	Enums(created, success, error)
//	@Param			reason				query		string	false	"only with this reason"
//	@Param			from				query		string	false	"only those accepted from this time on (RFC 3339)"	format(date-time)
//	@Param			to					query		string	false	"only those accepted before this time (RFC 3339)"	format(date-time)
//	@Param			limit				query		int		false	"1–200, default 50"
//	@Param			cursor				query		string	false	"next_cursor of the page before"
//	@Success		200					{object}	httpserver.List[contract.Operation]
//	@Failure		406					{object}	httpserver.Problem	"not_acceptable"
//	@Router			/api/v1/operations [get]
func (a *API) listOperations(w http.ResponseWriter, r *http.Request) (err error) {
	var f postgres.OperationFilter
	var reason string
	if err = texts(r, text{"reference", contract.MaxReference, &f.Reference}, text{"reason", contract.MaxReason, &reason},
		text{"reference_prefix", contract.MaxReference, &f.ReferencePrefix}); err != nil {
		return err
	}
	f.Reason = ledger.Reason(reason)
	if f.OrderID, err = httpserver.UUIDParam(r, "order_id"); err != nil {
		return err
	}
	if f.AccountID, err = httpserver.UUIDParam(r, "account_id"); err != nil {
		return err
	}
	if f.Kind, err = oneOf(r, "operation", ledger.KindCreateAccount, ledger.KindDeposit, ledger.KindWithdrawal,
		ledger.KindTransfer, ledger.KindHoldFunds, ledger.KindCapture, ledger.KindRelease, ledger.KindPayment,
		ledger.KindRefund); err != nil {
		return err
	}
	if f.Status, err = oneOf(r, "status", ledger.Created, ledger.Success, ledger.Error); err != nil {
		return err
	}
	if f.From, f.To, err = httpserver.TimesParam(r); err != nil {
		return err
	}
	return a.writeOperations(w, r, f)
}

func (a *API) writeOperations(w http.ResponseWriter, r *http.Request, f postgres.OperationFilter) error {
	by := identity.ReachFrom(r.Context())
	return httpserver.WriteList(w, r, func(ctx context.Context, below int64, limit int) (
		[]ledger.Operation, int64, error) {
		return a.store.Operations(ctx, by, f, below, limit)
	}, func(op ledger.Operation) (contract.Operation, error) { return a.present.Operation(&op, by) })
}

// listPayments lists payments of orders.
//
//	@ID				listPayments
//	@Summary		List the payments of orders, newest first
//	@Description	By the time at which the order was accepted here, which is not after the payment's created_at. An index answers
//	@Description	the order, else the account; for others a page looks at no more than 10,000 operations: it may hold fewer
//	@Description	than the limit, or none, and still have a next_cursor.
//	@Description	With Accept: text/csv the whole list is streamed, without limit and cursor.
//	@Tags			payments
//	@Produce		json,text/csv,application/problem+json
//	@Param			order_id	query		string	false	"only that of this order"		format(uuid)
//	@Param			account_id	query		string	false	"only those of this account"	format(uuid)
//	@Param			status		query		string	false	"only with this status"			Enums(created, authorized, succeeded, failed, cancelled, refunded)
//	@Param			reason		query		string	false	"only with this reason"
//	@Param			from		query		string	false	"only those accepted from this time on (RFC 3339)"	format(date-time)
//	@Param			to			query		string	false	"only those accepted before this time (RFC 3339)"	format(date-time)
//	@Param			limit		query		int		false	"1–200, default 50"
//	@Param			cursor		query		string	false	"next_cursor of the page before"
//	@Success		200			{object}	httpserver.List[contract.Payment]
//	@Failure		406					{object}	httpserver.Problem	"not_acceptable"
//	@Router			/api/v1/payments [get]
func (a *API) listPayments(w http.ResponseWriter, r *http.Request) (err error) {
	var f postgres.PaymentFilter
	var reason string
	if err = texts(r, text{"reason", contract.MaxReason, &reason}); err != nil {
		return err
	}
	f.Reason = ledger.Reason(reason)
	if f.OrderID, err = httpserver.UUIDParam(r, "order_id"); err != nil {
		return err
	}
	if f.AccountID, err = httpserver.UUIDParam(r, "account_id"); err != nil {
		return err
	}
	if f.Status, err = oneOf(r, "status", contract.PaymentCreated, contract.PaymentAuthorized, contract.PaymentSucceeded,
		contract.PaymentFailed, contract.PaymentCancelled, contract.PaymentRefunded); err != nil {
		return err
	}
	if f.From, f.To, err = httpserver.TimesParam(r); err != nil {
		return err
	}
	by := identity.ReachFrom(r.Context())
	return httpserver.WriteList(w, r, func(ctx context.Context, below int64, limit int) (
		[]ledger.OrderPayment, int64, error) {
		return a.store.Payments(ctx, by, f, below, limit)
	}, a.present.Payment)
}

// listHolds lists the holds of an account.
//
//	@ID				listAccountHolds
//	@Summary		List what was set aside of an account, newest first
//	@Description	A page looks at no more than 10,000 of the account's operations: it may hold fewer than the limit, or none,
//	@Description	and still have a next_cursor.
//	@Description	With Accept: text/csv the whole list is streamed, without limit and cursor.
//	@Tags			accounts
//	@Produce		json,text/csv,application/problem+json
//	@Param			id		path		string	true	"ID of the account"		format(uuid)	example(01a0a3c5-96a1-7c4e-8d7c-6a1f0e9f2b11)
//	@Param			status	query		string	false	"only with this status"	Enums(open, captured, released, expired)
//	@Param			limit	query		int		false	"1–200, default 50"
//	@Param			cursor	query		string	false	"next_cursor of the page before"
//	@Success		200		{object}	httpserver.List[Hold]
//	@Failure		404		{object}	httpserver.Problem	"account_not_found"
//	@Failure		406					{object}	httpserver.Problem	"not_acceptable"
//	@Router			/api/v1/accounts/{id}/holds [get]
func (a *API) listHolds(w http.ResponseWriter, r *http.Request) error {
	status, err := oneOf(r, "status", ledger.Open, ledger.Captured, ledger.Released, ledger.Expired)
	if err != nil {
		return err
	}
	account, err := a.accountOf(r)
	if err != nil {
		return err
	}
	return httpserver.WriteList(w, r, func(ctx context.Context, below int64, limit int) ([]ledger.Hold, int64, error) {
		return a.store.Holds(ctx, account, status, below, limit)
	}, a.hold)
}
