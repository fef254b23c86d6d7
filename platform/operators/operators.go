// Package operators serves to operators what is parked in a service, what the service knows of orders, and what
// operators have done there. It is not part of package parked, so that whoever parks something carries no HTTP.
package operators

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/platform/actions"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/parked"
	"github.com/altyn-pay/altyn/platform/reconcile"
)

// prefix begins all paths of the API.
const prefix = "/admin/"

// Path is where the list is.
const Path = prefix + "parked"

// ActionsPath is where the list of what operators have done is.
const ActionsPath = prefix + "actions"

// Serves reports whether a path is one of the API, which is served on the operators' plane alone.
func Serves(path string) bool { return strings.HasPrefix(path, prefix) }

// timeout bounds a call. A call goes on when its client leaves.
const timeout = 10 * time.Second

// The codes of problems beside those of any HTTP call.
const (
	CodeNotFound       = "parked_not_found" // 404: nothing is parked under this ID
	CodeNotDiscardable = "not_discardable"  // 422: it must take effect, so it can only be redriven
)

// API serves to operators what is parked in a service, and lets them redrive or discard it. It serves what the service
// knows of orders, too, if that is set (Reconciling).
type API struct {
	db      *sqlx.DB
	sources []parked.Source
	log     *slog.Logger

	reconciled reconcile.Source
	announce   func(context.Context, []uuid.UUID) (int, error)
}

// NewAPI makes the API over a service's database and sources. Each redrive and discard is recorded (package actions),
// and is a line in the log.
func NewAPI(db *sqlx.DB, log *slog.Logger, sources ...parked.Source) *API {
	return &API{db: db, sources: sources, log: log}
}

// Routes are those of the API.
func (a *API) Routes() []httpserver.Route {
	return []httpserver.Route{
		httpserver.NewRoute("GET", Path, identity.Operator, httpserver.Handle(a.list, "limit", "cursor")),
		httpserver.NewRoute("GET", ActionsPath, identity.Operator, httpserver.Handle(a.actions, "limit", "cursor")),
		httpserver.NewRoute("POST", Path+"/{id}/redrive", identity.Operator, httpserver.Handle(a.redrive)),
		httpserver.NewRoute("POST", Path+"/{id}/discard", identity.Operator, httpserver.Handle(a.discard)),
		httpserver.NewRoute("GET", DigestsPath, identity.Operator, httpserver.Handle(a.digests, "after", "to")),
		httpserver.NewRoute("GET", DigestsPath+"/orders", identity.Operator,
			httpserver.Handle(a.orders, "after", "to", "bucket", "ids")),
		httpserver.NewRoute("POST", DigestsPath+"/announce", identity.Operator, httpserver.Handle(a.announcement)),
	}
}

// list answers with a page of what is parked in all sources.
//
//	@ID				listParked
//	@Summary		List what is parked
//	@Description	On the operators' plane. What failed too often and now waits for an operator, the
//	@Description	newest last. What is still tried again by itself is not listed, nor what waits behind an item.
//	@Tags			operators
//	@Produce		json,application/problem+json
//	@Param			limit	query		int		false	"how many"	minimum(1)	maximum(200)	default(50)
//	@Param			cursor	query		string	false	"next_cursor of the page before"
//	@Success		200		{object}	httpserver.List[parked.Item]
//	@Failure		500		{object}	httpserver.Problem	"internal"
//	@Router			/admin/parked [get]
func (a *API) list(w http.ResponseWriter, r *http.Request) error {
	return page(w, r, parked.Position{}, func(ctx context.Context, after parked.Position, limit int) (
		items []parked.Item, err error) {
		for _, source := range a.sources {
			some, err := source.Parked(ctx, after, limit)
			if err != nil {
				return nil, err
			}
			items = append(items, some...)
		}
		slices.SortFunc(items, parked.Compare)
		return items, nil
	})
}

// actions answers with a page of what operators have done.
//
//	@ID				listActions
//	@Summary		List what operators have done
//	@Description	On the operators' plane. Who redrove or discarded what, when and why, the newest first. The record can only be added to.
//	@Tags			operators
//	@Produce		json,application/problem+json
//	@Param			limit	query		int		false	"how many"	minimum(1)	maximum(200)	default(50)
//	@Param			cursor	query		string	false	"next_cursor of the page before"
//	@Success		200		{object}	httpserver.List[actions.Action]
//	@Failure		500		{object}	httpserver.Problem	"internal"
//	@Router			/admin/actions [get]
func (a *API) actions(w http.ResponseWriter, r *http.Request) error {
	return page(w, r, actions.Newest, func(ctx context.Context, after parked.Position, limit int) (
		[]actions.Action, error) {
		return actions.List(ctx, a.db, after, limit)
	})
}

// page answers with a page of a list, which read reads: items after the cursor's position, or after first.
func page[Item interface{ Position() parked.Position }](w http.ResponseWriter, r *http.Request, first parked.Position,
	read func(ctx context.Context, after parked.Position, limit int) ([]Item, error)) error {
	after := first
	limit, err := httpserver.Page(r, &after)
	if err != nil {
		return err
	}
	if after.At = after.At.UTC(); after.At.Year() < 1 || after.At.Year() > 9999 {
		return httpserver.BadCursor()
	}
	ctx, cancel := detached(r)
	defer cancel()
	items, err := read(ctx, after, limit+1) // one more tells that there is a next page
	if err != nil {
		return err
	}
	next := ""
	if len(items) > limit {
		items = items[:limit]
		if next, err = httpserver.Cursor(r, items[limit-1].Position()); err != nil {
			return err
		}
	}
	return httpserver.WriteJSON(w, http.StatusOK, httpserver.NewList(items, next))
}

// Redrive says why an operator gives something another try.
type Redrive struct {
	Reason string `json:"reason,omitempty" example:"the trigger is mended" maxLength:"200" validate:"optional"`
} // @name Redrive

// redrive gives something another try.
//
//	@ID				redriveParked
//	@Summary		Give what is parked another try
//	@Description	For operators, once the cause is mended. A message takes its old place before what waits behind it, and its attempts are counted
//	@Description	anew; when it fails again it is parked again. The answer has the item as it was; one of the source events is tried at once, and when
//	@Description	it has failed again it is shown as it is now.
//	@Tags			operators
//	@Produce		json,application/problem+json
//	@Param			id		path		string	true	"the item's ID"	format(uuid)
//	@Param			request	body		Redrive	false	"why"
//	@Success		202		{object}	parked.Item
//	@Failure		404		{object}	httpserver.Problem	"parked_not_found"
//	@Failure		500		{object}	httpserver.Problem	"internal"
//	@Router			/admin/parked/{id}/redrive [post]
func (a *API) redrive(w http.ResponseWriter, r *http.Request) error {
	var request Redrive
	id, err := httpserver.PathUUID(r, "id")
	if err == nil {
		err = httpserver.DecodeOptionalJSON(w, r, &request)
	}
	if err != nil {
		return err
	}
	return a.act(w, r, actions.Redrive, "parked message redriven", request.Reason, func(ctx context.Context,
		s parked.Source, recorded parked.Record) (parked.Item, error) {
		return s.Redrive(ctx, id, recorded)
	})
}

// Discard says why an operator gives something up.
type Discard struct {
	Reason string `json:"reason" example:"agreed with the client in ticket 42" maxLength:"200" validate:"required"`
} // @name Discard

// discard gives something up.
//
//	@ID				discardParked
//	@Summary		Give up what is parked
//	@Description	For operators, when no other try will help; what waits behind it goes on. A client's request (source inbox) ends like any other that
//	@Description	fails, with the error discarded and the events that tell of it. One that no client has asked for, such as an expiry or a
//	@Description	cancellation, must take effect and is refused with not_discardable. A message to be published (outbox) is never published, an event
//	@Description	(events) never applied.
//	@Tags			operators
//	@Produce		json,application/problem+json
//	@Param			id		path		string	true	"the item's ID"	format(uuid)
//	@Param			request	body		Discard	true	"why"
//	@Success		202		{object}	parked.Item
//	@Failure		404		{object}	httpserver.Problem	"parked_not_found"
//	@Failure		422		{object}	httpserver.Problem	"not_discardable"
//	@Failure		500		{object}	httpserver.Problem	"internal"
//	@Router			/admin/parked/{id}/discard [post]
func (a *API) discard(w http.ResponseWriter, r *http.Request) error {
	var request Discard
	id, err := httpserver.PathUUID(r, "id")
	if err == nil {
		err = httpserver.DecodeJSON(w, r, &request)
	}
	if err == nil && strings.TrimSpace(request.Reason) == "" {
		err = contract.Invalid("reason", "is required")
	}
	if err != nil {
		return err
	}
	return a.act(w, r, actions.Discard, "parked message discarded", request.Reason, func(ctx context.Context,
		s parked.Source, recorded parked.Record) (parked.Item, error) {
		return s.Discard(ctx, id, request.Reason, recorded)
	})
}

// record returns what writes down who asks for something, and why.
func record(action, reason string) parked.Record {
	return func(ctx context.Context, tx *sqlx.Tx, item parked.Item) error {
		done, err := actions.New(identity.FromContext(ctx), action, item.ID.String(), reason, item)
		if err != nil {
			return err
		}
		done.RequestID = httpserver.RequestID(ctx)
		return actions.Append(ctx, tx, done)
	}
}

// act has the source that holds the item act on it, records and logs that, and answers.
func (a *API) act(w http.ResponseWriter, r *http.Request, action, done, reason string,
	act func(context.Context, parked.Source, parked.Record) (parked.Item, error)) error {
	if err := contract.CheckText(reason, contract.MaxReason); err != nil {
		return contract.Invalid("reason", "%v", err)
	}
	ctx, cancel := detached(r)
	defer cancel()
	recorded := record(action, reason)
	var item parked.Item
	err := parked.ErrNotFound
	for _, source := range a.sources {
		if item, err = act(ctx, source, recorded); !errors.Is(err, parked.ErrNotFound) {
			break
		}
	}
	switch {
	case errors.Is(err, parked.ErrNotFound):
		return httpserver.NewProblem(http.StatusNotFound, CodeNotFound, err.Error())
	case errors.Is(err, parked.ErrNotDiscardable):
		return httpserver.NewProblem(http.StatusUnprocessableEntity, CodeNotDiscardable,
			"what no client has asked for must take effect: it can only be redriven")
	case err != nil:
		return err
	}
	attributes := []any{"source", item.Source, "id", item.ID, "kind", item.Kind, "account_id", item.AccountID,
		"attempts", item.Attempts, "error", item.Reason,
		"tenant", identity.FromContext(ctx).Tenant, "subject", identity.FromContext(ctx).Subject,
		"request_id", httpserver.RequestID(ctx)}
	if reason != "" {
		attributes = append(attributes, "reason", reason)
	}
	a.log.WarnContext(ctx, done, attributes...)
	return httpserver.WriteJSON(w, http.StatusAccepted, item)
}

func detached(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(r.Context()), timeout)
}
