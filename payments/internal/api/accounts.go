package api

import (
	"context"
	"net/http"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/billing"
	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/identity"
)

// NewAccount asks for an account.
type NewAccount struct {
	ID        *uuid.UUID `json:"id,omitempty" swaggertype:"string" format:"uuid"` // chosen by the client, else by Altyn
	Owner     string     `json:"owner,omitempty" example:"alice" maxLength:"200"`
	Reference string     `json:"reference,omitempty" example:"customer-42" maxLength:"200"`
} // @name NewAccount

// createAccount opens an account.
//
//	@ID				openAccount
//	@Summary		Open an account
//	@Description	An account has a balance in every currency that it was ever given.
//	@Tags			accounts
//	@Param			request			body		NewAccount	false	"all fields are optional"
//	@Param			Idempotency-Key	header		string		false	"1–255 characters; the same key with the same request is the same account"
//	@Param			wait			query		string		false	"wait so long for the result, at most 30s"	example(5s)
//	@Success		201				{object}	contract.Account
//	@Success		202				{object}	contract.Operation	"not settled yet; Location names the operation"
//	@Failure		422				{object}	httpserver.Problem	"account_exists, cancelled, discarded, idempotency_key_reused"
//	@Router			/api/v1/accounts [post]
func (a *API) createAccount(w http.ResponseWriter, r *http.Request) error {
	var request NewAccount
	if err := httpserver.DecodeOptionalJSON(w, r, &request); err != nil {
		return err
	}
	c := contract.Command{
		Operation: string(ledger.KindCreateAccount), ID: request.ID, Owner: request.Owner, Reference: request.Reference,
	}
	return a.submit(w, r, c)
}

// listAccounts lists accounts.
//
//	@ID				listAccounts
//	@Summary		List accounts, newest first
//	@Description	An index answers the reference, else the owner; for others a page looks at no more than 10,000 accounts: it may
//	@Description	hold fewer than the limit, or none, and still have a next_cursor. With Accept: text/csv the whole list is
//	@Description	streamed, without limit and cursor; an account has a line for each balance.
//	@Tags			accounts
//	@Produce		json,text/csv,application/problem+json
//	@Param			owner				query		string	false	"only those of this owner"
//	@Param			owner_prefix		query		string	false	"only those of an owner that begins so"
//	@Param			reference			query		string	false	"only those with this reference"
//	@Param			reference_prefix	query		string	false	"only those with a reference that begins so"
//	@Param			limit				query		int		false	"1–200, default 50"
//	@Param			cursor				query		string	false	"next_cursor of the page before"
//	@Success		200					{object}	httpserver.List[contract.Account]
//	@Failure		406					{object}	httpserver.Problem	"not_acceptable"
//	@Router			/api/v1/accounts [get]
func (a *API) listAccounts(w http.ResponseWriter, r *http.Request) error {
	var f postgres.AccountFilter
	if err := texts(r, text{"owner", contract.MaxOwner, &f.Owner}, text{"owner_prefix", contract.MaxOwner, &f.OwnerPrefix},
		text{"reference", contract.MaxReference, &f.Reference},
		text{"reference_prefix", contract.MaxReference, &f.ReferencePrefix}); err != nil {
		return err
	}
	by := identity.ReachFrom(r.Context())
	return httpserver.WriteList(w, r, func(ctx context.Context, below int64, limit int) (
		[]postgres.Account, int64, error) {
		return a.store.Accounts(ctx, by, f, below, limit)
	}, a.present.Account)
}

// accountOf reads the account in the path.
func (a *API) accountOf(r *http.Request) (postgres.Account, error) {
	id, err := httpserver.PathUUID(r, "id")
	if err != nil {
		return postgres.Account{}, err
	}
	account, err := a.store.Account(r.Context(), identity.ReachFrom(r.Context()), id)
	return account, billing.NotFound(err, ledger.AccountNotFound)
}

// getAccount looks an account up.
//
//	@ID			getAccount
//	@Summary	Look at an account
//	@Tags		accounts
//	@Param		id	path		string	true	"ID of the account"	format(uuid)	example(01a0a3c5-96a1-7c4e-8d7c-6a1f0e9f2b11)
//	@Success	200	{object}	contract.Account
//	@Failure	404	{object}	httpserver.Problem	"account_not_found"
//	@Router		/api/v1/accounts/{id} [get]
func (a *API) getAccount(w http.ResponseWriter, r *http.Request) error {
	return get(w, r, "id", a.billing.Account)
}

// getBalance looks an account's balances up.
//
//	@ID			getBalance
//	@Summary	Look at the balances of an account
//	@Tags		accounts
//	@Param		id	path		string	true	"ID of the account"							format(uuid)	example(01a0a3c5-96a1-7c4e-8d7c-6a1f0e9f2b11)
//	@Param		at	query		string	false	"as they were at this time (RFC 3339); default: now"	format(date-time)
//	@Success	200	{object}	contract.Balances
//	@Failure	404	{object}	httpserver.Problem	"account_not_found"
//	@Router		/api/v1/accounts/{id}/balance [get]
func (a *API) getBalance(w http.ResponseWriter, r *http.Request) error {
	return get(w, r, "id", func(ctx context.Context, by identity.Reach, id uuid.UUID) (contract.Balances, error) {
		at, err := httpserver.TimeParam(r, "at")
		if err != nil {
			return contract.Balances{}, err
		}
		return a.billing.Balances(ctx, by, id, at)
	})
}

// listAccountOperations lists the operations of an account.
//
//	@ID			listAccountOperations
//	@Summary	List the operations of an account, newest first
//	@Produce	json,text/csv,application/problem+json
//	@Tags		operations
//	@Param		id		path		string	true	"ID of the account"	format(uuid)	example(01a0a3c5-96a1-7c4e-8d7c-6a1f0e9f2b11)
//	@Param		limit	query		int		false	"1–200, default 50"
//	@Param		cursor	query		string	false	"next_cursor of the page before"
//	@Success	200		{object}	httpserver.List[contract.Operation]
//	@Failure	404		{object}	httpserver.Problem	"account_not_found"
//	@Failure		406					{object}	httpserver.Problem	"not_acceptable"
//	@Router		/api/v1/accounts/{id}/operations [get]
func (a *API) listAccountOperations(w http.ResponseWriter, r *http.Request) error {
	account, err := a.accountOf(r)
	if err != nil {
		return err
	}
	return a.writeOperations(w, r, postgres.OperationFilter{AccountID: uuid.NullUUID{UUID: account.ID, Valid: true}})
}
