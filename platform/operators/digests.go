package operators

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/actions"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/reconcile"
)

// DigestsPath is where the digests of orders are.
const DigestsPath = prefix + "digests"

// Reconciling has the API serve what the service knows of orders, to be compared with what the other one knows.
// announce has the service tell again of those orders that it knows and can tell of, and returns how many.
func (a *API) Reconciling(source reconcile.Source, announce func(context.Context, []uuid.UUID) (int, error)) *API {
	a.reconciled, a.announce = source, announce
	return a
}

// digests answers with the digests of a range of orders.
//
//	@ID				listDigests
//	@Summary		Digests of orders
//	@Description	On the operators' plane. How many orders there are, by the last byte of their IDs, status and currency, their sums, and a hash
//	@Description	over what both services know of each. A range that has too many orders is cut, and the answer says where.
//	@Tags			operators
//	@Produce		json,application/problem+json
//	@Param			after	query		string	false	"begin after this ID"		format(uuid)
//	@Param			to		query		string	false	"end with this ID"	format(uuid)
//	@Success		200		{object}	reconcile.Page
//	@Failure		400		{object}	httpserver.Problem	"invalid_request"
//	@Failure		500		{object}	httpserver.Problem	"internal"
//	@Router			/admin/digests [get]
func (a *API) digests(w http.ResponseWriter, r *http.Request) error {
	after, to, err := idRange(r)
	if err != nil {
		return err
	}
	ctx, cancel := detached(r)
	defer cancel()
	page, err := a.reconciled.Digests(ctx, after, to)
	if err != nil {
		return err
	}
	return httpserver.WriteJSON(w, http.StatusOK, page)
}

func idRange(r *http.Request) (after, to uuid.UUID, err error) {
	from, err := httpserver.UUIDParam(r, "after")
	if err != nil {
		return after, to, err
	}
	end, err := httpserver.UUIDParam(r, "to")
	if !end.Valid {
		end.UUID = uuid.Max
	}
	return from.UUID, end.UUID, err
}

// orders answers with the orders of a bucket, or with those that are named.
//
//	@ID				listDigestedOrders
//	@Summary		Orders behind a digest
//	@Description	On the operators' plane. The orders of a range, of one of its buckets, or the named ones, as this service knows them, at most 50,000.
//	@Tags			operators
//	@Produce		json,application/problem+json
//	@Param			after	query		string	false	"begin after this ID"		format(uuid)
//	@Param			to		query		string	false	"end with this ID"	format(uuid)
//	@Param			bucket	query		int		false	"the last byte of the IDs"	minimum(0)	maximum(255)
//	@Param			ids		query		string	false	"IDs instead, at most 100, separated by commas"
//	@Success		200		{object}	reconcile.Orders
//	@Failure		400		{object}	httpserver.Problem	"invalid_request"
//	@Failure		500		{object}	httpserver.Problem	"internal"
//	@Router			/admin/digests/orders [get]
func (a *API) orders(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	after, to, err := idRange(r)
	if err != nil {
		return err
	}
	ctx, cancel := detached(r)
	defer cancel()
	var list reconcile.Orders
	if query.Has("ids") {
		if query.Has("after") || query.Has("to") || query.Has("bucket") {
			return contract.Invalid("ids", "must be alone")
		}
		ids, err := parseIDs(strings.Split(query.Get("ids"), ","))
		if err != nil {
			return err
		}
		list, err = a.reconciled.Named(ctx, ids)
		if err != nil {
			return err
		}
	} else {
		bucket := -1
		if text := query.Get("bucket"); text != "" {
			n, err := strconv.ParseUint(text, 10, 8)
			if err != nil {
				return contract.Invalid("bucket", "must be a number from 0 to 255")
			}
			bucket = int(n)
		}
		if list, err = a.reconciled.Range(ctx, after, to, bucket); err != nil {
			return err
		}
	}
	return httpserver.WriteJSON(w, http.StatusOK, list)
}

func parseIDs(texts []string) ([]uuid.UUID, error) {
	if len(texts) == 0 || len(texts) > reconcile.MaxIDs {
		return nil, contract.Invalid("ids", "must be 1 to %d", reconcile.MaxIDs)
	}
	ids := make([]uuid.UUID, len(texts))
	for i, text := range texts {
		var err error
		if ids[i], err = httpserver.ParseID("ids", text); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return strings.Compare(string(a[:]), string(b[:])) })
	return slices.Compact(ids), nil
}

// Announcement names orders to be announced again, and says why.
type Announcement struct {
	// at most 100
	IDs    []string `json:"ids" validate:"required" example:"01a1fa0e-c6f4-7058-9bab-7af3716ffb16"`
	Reason string   `json:"reason,omitempty" example:"an event was lost" maxLength:"200" validate:"optional"`
} // @name Announcement

// Announced is how many orders were announced again.
type Announced struct {
	Announced int `json:"announced" example:"1"`
} // @name Announced

// announcement announces orders again.
//
//	@ID				announceOrders
//	@Summary		Announce orders again
//	@Description	On the operators' plane. payments tells of the payments' present state once more; orders announces those once more whose payment is
//	@Description	not decided or that are being cancelled. An event that was not lost changes nothing.
//	@Tags			operators
//	@Accept			json
//	@Produce		json,application/problem+json
//	@Param			request	body		Announcement	true	"which, and why"
//	@Success		202		{object}	Announced
//	@Failure		400		{object}	httpserver.Problem	"invalid_request"
//	@Failure		500		{object}	httpserver.Problem	"internal"
//	@Router			/admin/digests/announce [post]
func (a *API) announcement(w http.ResponseWriter, r *http.Request) error {
	var request Announcement
	if err := httpserver.DecodeJSON(w, r, &request); err != nil {
		return err
	}
	if err := contract.CheckText(request.Reason, contract.MaxReason); err != nil {
		return contract.Invalid("reason", "%v", err)
	}
	ids, err := parseIDs(request.IDs)
	if err != nil {
		return err
	}
	ctx, cancel := detached(r)
	defer cancel()
	who := identity.FromContext(ctx)
	list := make([]actions.Action, len(ids))
	for i, id := range ids {
		if list[i], err = actions.New(who, actions.Announce, id.String(), request.Reason, struct{}{}); err != nil {
			return err
		}
		list[i].RequestID = httpserver.RequestID(ctx)
	}
	if err := actions.Record(ctx, a.db, list); err != nil {
		return err
	}
	n, err := a.announce(ctx, ids)
	if err != nil {
		return err
	}
	a.log.WarnContext(ctx, "orders are announced again", "orders", n, "asked", len(ids), "reason", request.Reason,
		"tenant", who.Tenant, "subject", who.Subject, "request_id", httpserver.RequestID(ctx))
	return httpserver.WriteJSON(w, http.StatusAccepted, Announced{n})
}
