// Package api is the HTTP interface of orders: it decodes requests, has package placing do what they ask, and encodes
// the answers.
package api

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/placing"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/groupcommit"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/idempotency"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/money"
	"github.com/altyn-pay/altyn/platform/outbox"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/watch"
)

// Path is where the orders are.
const Path = "/api/v1/orders"

// API serves the orders.
type API struct {
	orders     *placing.Service
	store      *postgres.Store // read only
	currencies *money.Currencies
	changes    *watch.Hub[order.Order]
	streams    atomic.Int64 // open ones
}

// New makes the API. changes tells of orders whose status has changed.
func New(orders *placing.Service, store *postgres.Store, currencies *money.Currencies, changes *watch.Hub[order.Order],
	metrics prometheus.Registerer) *API {
	a := &API{orders: orders, store: store, currencies: currencies, changes: changes}
	metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "altyn_orders_streams", Help: "Open streams of an order's status.",
	}, func() float64 { return float64(a.streams.Load()) }))
	return a
}

// Routes are those of the API.
func (a *API) Routes() []httpserver.Route {
	return []httpserver.Route{
		httpserver.NewRoute("POST", Path, identity.OrdersWrite, httpserver.Handle(a.place, "wait")),
		httpserver.NewRoute("POST", Path+"/batch", identity.OrdersWrite, httpserver.Handle(a.placeBatch)),
		httpserver.NewRoute("GET", Path, identity.OrdersRead,
			httpserver.Handle(a.list, append(filters, "limit", "cursor")...)),
		httpserver.NewRoute("GET", Path+"/{id}", identity.OrdersRead, httpserver.Handle(a.get, "wait")),
		httpserver.NewRoute("POST", Path+"/{id}/cancel", identity.OrdersWrite, httpserver.Handle(a.cancel, "wait")),
		httpserver.NewRoute("GET", Path+"/{id}/timeline", identity.OrdersRead, httpserver.Handle(a.timeline)),
		httpserver.NewRoute("GET", Path+"/{id}/explain", identity.OrdersRead, httpserver.Handle(a.explain)),
		httpserver.NewRoute("GET", Path+"/{id}/stream", identity.OrdersRead, httpserver.Handle(a.stream)),
	}
}

// clientOf returns who asks. The route has judged the request.
func clientOf(ctx context.Context) placing.Client {
	return placing.Client{Reach: identity.ReachFrom(ctx), Subject: identity.FromContext(ctx).Subject}
}

// answer answers with an order.
func (a *API) answer(w http.ResponseWriter, status int, o order.Order, repeated bool) error {
	body, err := a.json(o)
	if err != nil {
		return err
	}
	if status == http.StatusCreated {
		w.Header().Set("Location", locationOf(o.ID))
	}
	tellRepeated(w, repeated)
	return httpserver.WriteJSON(w, status, body)
}

// tellRepeated says that an earlier request with the same key did it.
func tellRepeated(w http.ResponseWriter, repeated bool) {
	if repeated {
		w.Header().Set("Idempotent-Replayed", "true")
	}
}

// watch begins to watch an order. Call it before the order is read or changed, so that no change is missed. await
// returns the order once it is settled, or its latest state when the wait is over, the token expires, the client leaves
// or the server drains; without a wait it returns at once. done ends the watch.
func (a *API) watch(id uuid.UUID, wait time.Duration) (
	await func(context.Context, order.Order) order.Order, done func()) {
	if wait <= 0 {
		return func(_ context.Context, o order.Order) order.Order { return o }, func() {}
	}
	changes := a.changes.Subscribe(id)
	return func(ctx context.Context, o order.Order) order.Order {
		changes.Seen(o)
		ctx, cancel := identity.UntilExpired(ctx)
		defer cancel()
		timer := time.NewTimer(wait)
		defer timer.Stop()
		for !o.Status.Settled() {
			select {
			case o = <-changes.Changes():
			case <-timer.C:
				return o
			case <-ctx.Done():
				return o
			case <-httpserver.Draining(ctx).Done():
				return o
			}
		}
		return o
	}, changes.Close
}

// The codes of problems that only orders has; httpserver has those of any HTTP call.
const (
	CodeOrderNotFound = "order_not_found" // 404: there is no order with this ID
	CodeOrderFailed   = "order_failed"    // 422: a failed order cannot be cancelled
)

var (
	errOrderNotFound = httpserver.NewProblem(http.StatusNotFound, CodeOrderNotFound, "there is no order with this ID")
	errOrderFailed   = httpserver.NewProblem(http.StatusUnprocessableEntity, CodeOrderFailed,
		"the order has failed; there is nothing to cancel")
	errKeyReused = httpserver.NewProblem(http.StatusUnprocessableEntity, httpserver.CodeIdempotencyKeyReused,
		"this Idempotency-Key came with another request before")
)

// Classify is the one table from the errors of orders to problems. It returns nil for an error that it does not know,
// which becomes a 500.
func Classify(err error) *httpserver.Problem {
	var unknown *placing.OutcomeUnknownError
	switch {
	case errors.As(err, &unknown):
		p := httpserver.OutcomeUnknown(locationOf(unknown.OrderID), err)
		p.OrderID = unknown.OrderID.String()
		return p
	case errors.Is(err, postgres.ErrNotFound):
		return errOrderNotFound
	case errors.Is(err, order.ErrFailed):
		return errOrderFailed
	case errors.Is(err, idempotency.ErrReused):
		return errKeyReused
	case pg.IsOutcomeUnknown(err):
		return httpserver.OutcomeUnknown("", err)
	case errors.Is(err, groupcommit.ErrBusy), errors.Is(err, outbox.ErrFull):
		return httpserver.Overloaded("there is no room for more at the moment; try again later").Because(err)
	case errors.Is(err, placing.ErrUnavailable), pg.IsTransient(err):
		return httpserver.Unavailable(err)
	}
	return nil
}

// problemOf is the problem of one order of a batch.
func problemOf(err error) *httpserver.Problem {
	if p := httpserver.AsProblem(err); p != nil {
		return p
	}
	return Classify(err)
}

func locationOf(id uuid.UUID) string { return Path + "/" + id.String() }

// PlaceOrder is a request for an order. Its fields are those of order.Request.
type PlaceOrder struct {
	AccountID string `json:"account_id" format:"uuid" example:"0198c5a7-5f6e-7c3e-9d57-3f1f6a0f8e11" validate:"required"`
	// a decimal string or number, at most with the currency's digits
	Amount      money.Decimal `json:"amount" swaggertype:"string" example:"70.00" validate:"required"`
	Currency    string        `json:"currency" example:"RUB" validate:"required"`
	Description string        `json:"description,omitempty" example:"Order 17 of the shop" maxLength:"1000"`
	// the caller's own ID
	Reference string `json:"reference,omitempty" example:"shop-17" maxLength:"200"`
	// manual: the money is held until the payment is confirmed or rejected
	Capture string `json:"capture,omitempty" enums:"automatic,manual" default:"automatic"`
	// wait for the goods to be set aside
	AwaitInventory bool `json:"await_inventory,omitempty" example:"false" default:"false"`
	// wait: for money, until the deadline
	OnInsufficient string `json:"on_insufficient,omitempty" enums:"reject,wait" default:"reject"`
	// the deadline, from now: 1s to 8760h, of what waits for money 720h
	ExpiresIn string `json:"expires_in,omitempty" example:"15m"`
}

// PlaceOrders is a request for many orders.
type PlaceOrders struct {
	Orders []PlaceOrder `json:"orders" minItems:"1" maxItems:"1000" validate:"required"`
}

// CancelOrder is a request to cancel an order.
type CancelOrder struct {
	Reason string `json:"reason,omitempty" example:"the client changed its mind" maxLength:"200"`
}

// Order is an order as its clients see it.
type Order struct {
	ID             uuid.UUID    `json:"id" swaggertype:"string" format:"uuid" example:"0198c5a8-0d3c-7b0f-8a52-5c1d2e3f4a5b"`
	AccountID      uuid.UUID    `json:"account_id" swaggertype:"string" format:"uuid" example:"0198c5a7-5f6e-7c3e-9d57-3f1f6a0f8e11"`
	Amount         string       `json:"amount" example:"2500.00"` // with the currency's number of digits, as all amounts
	Currency       string       `json:"currency" example:"RUB"`
	Description    string       `json:"description" example:"Order 17 of the shop"`
	Reference      string       `json:"reference,omitempty" example:"shop-17"`
	Capture        string       `json:"capture" enums:"automatic,manual" example:"automatic"`
	AwaitInventory bool         `json:"await_inventory" example:"false"`
	Status         order.Status `json:"status" swaggertype:"string" enums:"pending,authorized,paid,failed,cancelling,cancelled" example:"paid"`
	// what it waits for, why it failed or is cancelled
	Reason string `json:"reason,omitempty" example:"insufficient_funds"`
	// what a client said of the cancellation, rejection or refund
	Note           string         `json:"note,omitempty"`
	CapturedAmount string         `json:"captured_amount" example:"2500.00"`
	RefundedAmount string         `json:"refunded_amount" example:"0.00"`
	CreatedAt      contract.Time  `json:"created_at" format:"date-time" example:"2026-01-02T15:04:05.123456Z"`
	UpdatedAt      contract.Time  `json:"updated_at" format:"date-time" example:"2026-01-02T15:04:05.130123Z"`
	ExpiresAt      *contract.Time `json:"expires_at,omitempty" format:"date-time"`
	Owner          string         `json:"owner,omitempty" example:"alice"` // who placed it: the sub of the token
	IdempotencyKey string         `json:"idempotency_key,omitempty" example:"cart-17"`
}

// Results answers a request for many orders, in the order of the request.
type Results struct {
	Items []Result `json:"items"`
}

// Result is what became of one order of a batch: either an order or a problem.
type Result struct {
	Index   int                 `json:"index" example:"0"`
	Order   *Order              `json:"order,omitempty"`
	Problem *httpserver.Problem `json:"problem,omitempty"`
}

// Timeline is what happened to an order, the first event first.
type Timeline struct {
	Items []TimelineItem `json:"items"`
}

// TimelineItem is a step of an order.
type TimelineItem struct {
	At     contract.Time `json:"at" format:"date-time" example:"2026-01-02T15:04:05.130123Z"`
	Status order.Status  `json:"status" swaggertype:"string" enums:"pending,authorized,paid,failed,cancelling,cancelled" example:"paid"`
	// why; where the status is the one before, what happened to the payment
	Reason  string     `json:"reason,omitempty"`
	Note    string     `json:"note,omitempty"` // what a client said of it
	EventID *uuid.UUID `json:"event_id,omitempty" swaggertype:"string" format:"uuid"`
}

func (a *API) json(o order.Order) (Order, error) {
	currency, err := o.Denomination(a.currencies)
	if err != nil {
		return Order{}, err
	}
	return Order{
		ID: o.ID, AccountID: o.AccountID, Amount: currency.Format(o.Amount), Currency: o.Currency, Description: o.Description,
		Reference: o.Reference, Capture: o.Capture, AwaitInventory: o.AwaitInventory,
		Status: o.Status, Reason: o.Reason, Note: o.Note,
		CapturedAmount: currency.Format(o.Captured), RefundedAmount: currency.Format(o.Refunded),
		CreatedAt: contract.Time(o.CreatedAt), UpdatedAt: contract.Time(o.UpdatedAt),
		ExpiresAt: (*contract.Time)(o.ExpiresAt), Owner: o.Subject, IdempotencyKey: o.Key,
	}, nil
}

// timelineOf begins with the placing of the order, which is in its row, and goes on with its transitions.
func timelineOf(o order.Order, transitions []order.Transition) Timeline {
	placed := o.PlacedEventID()
	items := []TimelineItem{{At: contract.Time(o.CreatedAt), Status: order.Pending, EventID: &placed}}
	for _, t := range transitions {
		item := TimelineItem{At: contract.Time(t.At), Status: t.To, Reason: t.Reason, Note: t.Note}
		if t.EventID.Valid {
			item.EventID = &t.EventID.UUID
		}
		items = append(items, item)
	}
	return Timeline{items}
}
